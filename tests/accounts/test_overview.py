"""The last day in figures: every sign-up is counted once, where it belongs, and no older one."""

from __future__ import annotations

import pytest
import trio

from regsvc.accounts.admin.shared_overview import Look, SharedOverview
from regsvc.accounts.admin.statistics import (
    BOUNDS,
    MOST_READ,
    Overview,
    make_overview,
    name_bounds,
)
from regsvc.postgres.pool import Pool
from tests.accounts.attempts import send, sign_up


async def look(pool: Pool) -> Overview:
    async with pool.connection() as conn:
        return await make_overview(conn)


async def test_a_day_without_anybody_is_all_zeros(pool: Pool) -> None:
    day = await look(pool)
    assert set(vars(day.totals).values()) == {0}
    assert (day.queue.queued, day.queue.oldest) == (0, None)
    assert [(hour.signed_up, hour.confirmed) for hour in day.hours] == [(0, 0)] * 24
    assert (sum(day.speed.counts), day.speed.median, day.speed.p95) == (0, None, None)


async def test_sign_ups_are_counted_by_what_became_of_them(pool: Pool) -> None:
    waiting, sent, delayed, old = [await sign_up(pool, f"{name}@example.com") for name in "abcd"]
    await send(pool, sent.mail_id)
    async with pool.connection() as conn:
        await conn.execute(
            "UPDATE registrations SET state = 'delayed', next_try_at = now() WHERE id = %(id)s",
            {"id": delayed.id},
        )
        await conn.execute(
            "UPDATE registrations SET created_at = now() - interval '25 hours' WHERE id = %(id)s",
            {"id": old.id},
        )
    day = await look(pool)
    totals = day.totals
    assert (totals.signed_up, totals.waiting, totals.delayed, totals.confirmed) == (3, 2, 1, 0)
    assert day.queue.queued == 3
    assert day.queue.oldest is not None
    assert sum(hour.signed_up for hour in day.hours) == 3
    assert day.share == 1
    assert waiting.id != old.id


@pytest.mark.parametrize(
    ("seconds", "bar"), [(0.2, "0 s-1 s"), (7, "5 s-10 s"), (59, "30 s-1 min"), (5000, "over 60 min")]
)
async def test_a_mail_counts_where_its_time_belongs(seconds: float, bar: str, pool: Pool) -> None:
    new = await sign_up(pool)
    await send(pool, new.mail_id)
    async with pool.connection() as conn:
        await conn.execute(
            """
            UPDATE registrations SET created_at = m.sent_at - make_interval(secs => %(seconds)s)
              FROM mails m WHERE m.registration_id = registrations.id
            """,
            {"seconds": seconds},
        )
    speed = (await look(pool)).speed
    assert len(speed.counts) == len(BOUNDS)
    assert {name: count for name, count in zip(name_bounds(), speed.counts, strict=True) if count} == {bar: 1}
    assert speed.median == pytest.approx(seconds, abs=0.01)
    assert speed.p95 == speed.median


BUSY = 4 * MOST_READ


async def fill(pool: Pool) -> None:
    """Store a busy day: one in two is confirmed, mails take 3 s, and seven bounced."""
    async with pool.connection(limit=60) as conn:
        await conn.execute(
            """
            INSERT INTO registrations (id, email, email_key, name, locale, password_hash, origin, client, state,
                                       created_at, reason)
            SELECT gen_random_uuid(), 'a@b.c', 'a@b.c', 'A', 'en', CASE WHEN state <> 'confirmed' THEN 'h' END,
                   'o', 'c', state, now() - interval '23 hours 59 minutes' * n / %(busy)s, 'x'
              FROM (SELECT n, CASE WHEN n <= 7 THEN 'bounced' WHEN n & 1 = 0 THEN 'confirmed' ELSE 'sent' END
                         AS state FROM generate_series(1, %(busy)s) n) AS r
            """,
            {"busy": BUSY},
        )
        await conn.execute(
            """
            INSERT INTO mails (id, registration_id, kind, state, due_at, created_at, sent_at)
            SELECT gen_random_uuid(), id, 'signup', 'sent', NULL, created_at, created_at + interval '3 seconds'
              FROM registrations WHERE created_at > now() - interval '24 hours'
            """
        )
        await conn.execute("ANALYZE registrations, mails")


async def test_a_busy_day_is_estimated_from_a_part_of_it_and_what_is_rare_is_counted(pool: Pool) -> None:
    await fill(pool)
    day = await look(pool)
    assert day.share < 0.5
    assert day.totals.signed_up == pytest.approx(BUSY, rel=0.1)
    assert day.totals.confirmed == pytest.approx(BUSY / 2, rel=0.1)
    assert day.totals.bounced == 7
    assert sum(hour.signed_up for hour in day.hours) == pytest.approx(BUSY, rel=0.15)
    assert day.speed.median == pytest.approx(3, abs=0.01)
    assert {n for n, count in zip(name_bounds(), day.speed.counts, strict=True) if count} == {"2 s-5 s"}


async def test_viewers_share_a_look(pool: Pool) -> None:
    shared = SharedOverview()
    seen: list[Look] = []

    async def view() -> None:
        seen.append(await shared.get(pool))

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(view)
    assert len(seen) == 20
    assert len({id(day) for day in seen}) == 1
