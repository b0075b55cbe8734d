"""Any table may hold jobs: claims, leases, failures and wake-ups on one that is no table of mails."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
import trio

from regsvc.jobs.back_off import BackOff
from regsvc.jobs.claims import claim_due, claim_ids, find_claimable, seconds_until_due
from regsvc.jobs.due import listen_due
from regsvc.jobs.failures import book_failures
from regsvc.jobs.keeping import TRUSTED, keep_leases
from regsvc.jobs.leases import find_leased, ids_of, release_jobs, renew_leases, update_leased
from regsvc.jobs.table import JobTable
from regsvc.postgres.pool import Pool
from regsvc.waiting import Alarm, lease_time


@dataclass(frozen=True)
class Parcel:
    """A claimed parcel."""

    id: UUID
    lease: UUID
    attempts: int
    age: timedelta
    town: str


PARCELS = JobTable(
    "the parcels",
    Parcel,
    "id, lease, attempts, now() - created_at AS age, town",
    "parcel_due",
    claimed="seen = true",
)
HOUR = timedelta(hours=1)


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    """Open a database with a table of parcels, whose name needs quotes."""
    pool = Pool(database, application_name="regsvc test")
    async with pool.connection() as conn:
        await conn.execute(
            """
            CREATE TABLE "the parcels" (
                id uuid PRIMARY KEY, town text NOT NULL, state text NOT NULL DEFAULT 'queued', reason text,
                due_at timestamptz DEFAULT now(), lease uuid, attempts integer NOT NULL DEFAULT 0,
                seen boolean NOT NULL DEFAULT false,
                created_at timestamptz NOT NULL DEFAULT now(), changed_at timestamptz NOT NULL DEFAULT now(),
                CHECK ((state IN ('queued', 'sending', 'delayed')) = (due_at IS NOT NULL)),
                CHECK ((state = 'sending') = (lease IS NOT NULL)))
            """
        )
        await conn.execute(
            """CREATE INDEX ON "the parcels" (due_at) WHERE state IN ('queued', 'sending', 'delayed')"""
        )
    yield pool
    await pool.aclose()


async def add(pool: Pool, *, due_in: str = "0") -> UUID:
    """Insert a parcel."""
    parcel_id = uuid4()
    async with pool.connection() as conn:
        await conn.execute(
            """INSERT INTO "the parcels" (id, town, due_at) VALUES (%s, 'Ulm', now() + %s::interval)""",
            (parcel_id, due_in),
        )
    return parcel_id


async def rewind(pool: Pool, by: str) -> None:
    """Let time pass for every open parcel."""
    async with pool.connection() as conn:
        await conn.execute(
            """UPDATE "the parcels" SET due_at = due_at - %s::interval WHERE due_at IS NOT NULL""", (by,)
        )


async def show(pool: Pool) -> list[tuple[object, ...]]:
    """Return state, attempts, reason and whether a lease is held, of every parcel."""
    async with pool.connection() as conn:
        cursor = await conn.execute(
            """SELECT state, attempts, reason, lease IS NOT NULL FROM "the parcels" ORDER BY created_at"""
        )
        return await cursor.fetchall()


async def test_due_jobs_are_claimed_oldest_first_and_once(pool: Pool) -> None:
    new, old = await add(pool), await add(pool, due_in="-1 hour")
    await add(pool, due_in="1 hour")
    async with pool.connection() as conn:
        assert [job.id for job in await claim_due(conn, PARCELS, 1)] == [old]
        assert await claim_due(conn, PARCELS, 9, overdue=HOUR) == []
        (job,) = await claim_due(conn, PARCELS, 9)
        assert (job.id, job.town, job.attempts) == (new, "Ulm", 1)
        assert await claim_ids(conn, PARCELS, [new, old]) == []
        cursor = await conn.execute("""SELECT seen FROM "the parcels" ORDER BY due_at""")
        assert await cursor.fetchall() == [(True,), (True,), (False,)]


async def test_a_job_held_by_another_transaction_is_skipped_and_named(pool: Pool) -> None:
    parcel = await add(pool)
    async with pool.transaction() as holder, pool.connection() as conn:
        await holder.execute("""SELECT FROM "the parcels" FOR UPDATE""")
        assert await claim_due(conn, PARCELS, 9) == []
        assert await claim_ids(conn, PARCELS, [parcel]) == []
        assert await find_claimable(conn, PARCELS, [parcel]) == {parcel}


async def test_an_expired_lease_is_anybodys_and_a_renewed_one_is_not(pool: Pool) -> None:
    await add(pool)
    async with pool.connection() as conn:
        (job,) = await claim_due(conn, PARCELS, 9)
        await rewind(pool, "44 s")
        assert await renew_leases(conn, PARCELS, [job]) == {job.id}
        await rewind(pool, "44 s")
        assert await claim_due(conn, PARCELS, 9) == []
        await rewind(pool, "2 s")
        (other,) = await claim_due(conn, PARCELS, 9)
        assert await renew_leases(conn, PARCELS, [job]) == set()
        assert await find_leased(conn, PARCELS, [job, other]) == {other.id}


async def test_a_released_job_is_due_later_and_its_attempt_does_not_count(pool: Pool) -> None:
    await add(pool)
    async with pool.connection() as conn:
        (job,) = await claim_due(conn, PARCELS, 9)
        await release_jobs(conn, PARCELS, [job], after=HOUR, sets="reason = %(why)s", why="closed")
        assert await show(pool) == [("queued", 0, "closed", False)]
        seconds = await seconds_until_due(conn, PARCELS)
        assert seconds is not None
        assert 3500 < seconds <= 3600


async def test_a_retry_policy_delays_and_gives_up(pool: Pool) -> None:
    back_off = BackOff((60.0,), jitter=0, give_up=HOUR)
    await add(pool)
    await add(pool)
    async with pool.connection() as conn:
        await conn.execute(
            """UPDATE "the parcels" SET created_at = now() - interval '2 h'
                WHERE id = (SELECT id FROM "the parcels" LIMIT 1)"""
        )
        claimed = await claim_due(conn, PARCELS, 9)
        failed = [(job, "nobody home") for job in claimed]
        booked = await book_failures(
            conn, PARCELS, failed, lambda job: back_off.next_delay(job.attempts, job.age)
        )
        assert set(booked) == {job.id for job in claimed}
        assert await show(pool) == [("dead", 1, "nobody home", False), ("delayed", 1, "nobody home", False)]
        assert await book_failures(conn, PARCELS, failed, lambda _: HOUR) == []  # the leases are over
        assert await claim_due(conn, PARCELS, 9) == []
        await rewind(pool, "60 s")
        assert [job.attempts for job in await claim_due(conn, PARCELS, 9)] == [2]


async def test_each_job_is_booked_with_its_own_values_under_its_own_lease(pool: Pool) -> None:
    parcels = [await add(pool), await add(pool)]
    async with pool.connection() as conn:
        first, second = sorted(await claim_due(conn, PARCELS, 9), key=lambda job: parcels.index(job.id))
        await rewind(pool, "46 s")
        await claim_ids(conn, PARCELS, [second.id])
        cursor = await conn.execute(
            update_leased(
                PARCELS,
                "state = 'sent', due_at = NULL, reason = b.note",
                {"note": "text"},
                returned="j.id, b.note",
            ),
            {"note": ["left", "right"], **ids_of([first, second])},
        )
        assert await cursor.fetchall() == [(first.id, "left")]


@pytest.mark.parametrize(("attempt", "seconds"), [(0, 5), (1, 5), (2, 30), (3, 120), (9, 120)])
def test_pauses_grow_to_the_last_one_and_vary(attempt: int, seconds: float) -> None:
    back_off = BackOff((5, 30, 120), jitter=0.2, give_up=HOUR)
    rng = random.Random(1)
    delays = {back_off.delay(attempt, rng=rng).total_seconds() for _ in range(100)}
    assert seconds * 0.8 <= min(delays) < seconds < max(delays) <= seconds * 1.2


async def test_a_release_wakes_who_listens_on_the_channel_of_the_table(pool: Pool, database: str) -> None:
    await add(pool)
    woken = Alarm()
    async with trio.open_nursery() as nursery:
        await nursery.start(listen_due, database, pool, PARCELS, woken)
        async with pool.connection() as conn:
            claimed = await claim_due(conn, PARCELS, 9)
            await release_jobs(conn, PARCELS, claimed)
        with trio.fail_after(5):
            await woken.wait()
        nursery.cancel_scope.cancel()


@dataclass
class InHand:
    """A parcel in hand."""

    job: Parcel
    held_until: float = 0


async def test_leases_in_hand_are_renewed_and_a_lost_one_is_over(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("regsvc.jobs.keeping.RENEW_EVERY", timedelta(seconds=0.01))
    await add(pool)
    await add(pool)
    async with pool.connection() as conn:
        kept, lost = (InHand(job) for job in await claim_due(conn, PARCELS, 9))
        await conn.execute(
            """UPDATE "the parcels" SET lease = gen_random_uuid() WHERE id = %s""", (lost.job.id,)
        )
    lost.held_until = lease_time() + TRUSTED
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep_leases, pool, PARCELS, lambda: [kept, lost])
            while kept.held_until == 0 or lost.held_until > lease_time():  # noqa: ASYNC110 - a clock has no event
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
    assert kept.held_until > lease_time() + TRUSTED - 5
