"""Which mail comes next while there is a backlog: whoever waits is served first, and nobody starves."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import pytest
import trio
import trio.testing

from regsvc.consumer.subscriber import _assign
from regsvc.live import GLANCE, LiveHub
from regsvc.mail.queue import breaker, publishing
from regsvc.mail.queue.precedence import Precedence, claim_best, claim_published
from regsvc.mail.queue.verdict import UNKNOWN
from regsvc.mail.queue.watches import PER_NETWORK, purge_watches, watch_mails
from regsvc.postgres.pool import Pool
from tests.services import run_test_service

if TYPE_CHECKING:
    from pathlib import Path


async def add(pool: Pool, age: float, *, origin: str = "192.0.2.0/24", **columns: str) -> tuple[UUID, UUID]:
    """Add a sign-up and its mail, due since so many seconds, and return the ids of both."""
    registration_id, mail_id = uuid4(), uuid4()
    values = {"state": "'queued'", "reason": "NULL", **columns}
    async with pool.connection() as conn:
        await conn.execute(
            "INSERT INTO registrations (id, email, email_key, name, locale, password_hash, origin, client)"
            " VALUES (%s, 'a@example.com', 'a@example.com', 'A', 'en', 'hash', %s, 'curl')",
            (registration_id, origin),
        )
        await conn.execute(
            f"INSERT INTO mails (id, registration_id, kind, created_at, due_at, {', '.join(values)})"
            f" VALUES (%s, %s, 'signup', now() - %s * interval '1 s', now() - %s * interval '1 s',"
            f" {', '.join(values.values())})".encode(),
            (mail_id, registration_id, age, age),
        )
    return registration_id, mail_id


async def add_notice(pool: Pool, age: float) -> UUID:
    """Add a user and a notice to them, due since so many seconds."""
    user_id, mail_id = uuid4(), uuid4()
    async with pool.connection() as conn:
        await conn.execute(
            "INSERT INTO users (id, email, email_key, name, password_hash, email_confirmed_at)"
            " VALUES (%s, %s, %s, 'A', 'hash', now())",
            (user_id, f"{user_id}@example.com", f"{user_id}@example.com"),
        )
        await conn.execute(
            "INSERT INTO mails (id, kind, notice, user_id, email, email_key, created_at, due_at)"
            " SELECT %s, 'notice', 'password_changed', id, email, email_key, now() - %s * interval '1 s',"
            " now() - %s * interval '1 s' FROM users WHERE id = %s",
            (mail_id, age, age, user_id),
        )
    return mail_id


async def watch(pool: Pool, *registration_ids: UUID) -> None:
    async with pool.connection() as conn:
        await watch_mails(conn, registration_ids)


async def claim_one_by_one(pool: Pool) -> list[UUID]:
    """Return all mails in the order in which they are claimed as the best."""
    claimed: list[UUID] = []
    while True:
        async with pool.connection() as conn:
            found = await claim_best(conn, 1)
        if not found:
            return claimed
        claimed += [job.id for job in found]


async def list_watched(pool: Pool) -> set[UUID]:
    async with pool.connection() as conn:
        cursor = await conn.execute("SELECT mail_id FROM mail_watches WHERE until > now()")
        return {row[0] for row in await cursor.fetchall()}


async def test_who_waits_comes_first_then_the_newest_then_retries_then_notices(pool: Pool) -> None:
    old_notice, new_notice = await add_notice(pool, 90), await add_notice(pool, 1)
    late = {"state": "'delayed'", "reason": "'timeout'"}
    _, tried_last = await add(pool, 20, **late)
    _, tried_first = await add(pool, 40, **late)
    _, old = await add(pool, 60)
    _, new = await add(pool, 5)
    oldest, oldest_mail = await add(pool, 80)
    older, older_mail = await add(pool, 70)
    await add(pool, -30)  # not due
    await watch(pool, oldest, older)
    assert await claim_one_by_one(pool) == [
        older_mail,
        oldest_mail,
        new,
        old,
        tried_first,
        tried_last,
        new_notice,
        old_notice,
    ]


async def test_a_claim_of_many_takes_each_once_and_the_best_of_them(pool: Pool) -> None:
    registered = [await add(pool, age) for age in range(10, 30)]
    await watch(pool, *(registration_id for registration_id, _ in registered[-2:]))
    async with pool.connection() as conn:
        claimed = [job.id for job in await claim_best(conn, 6)]
        rest = [job.id for job in await claim_best(conn, 100)]
    assert set(claimed) == {mail_id for _, mail_id in [*registered[-2:], *registered[:4]]}
    assert len(set(claimed + rest)) == len(claimed + rest) == 20


async def test_a_few_mails_of_a_network_count_as_watched(pool: Pool) -> None:
    """Also when several processes each know of a few, and while some of them are being sent."""
    crowd = [await add(pool, age, origin="198.51.100.0/24") for age in range(100, 110)]
    other, other_mail = await add(pool, 200, origin="203.0.113.0/24")
    newer = [await add(pool, age) for age in range(1, 4)]
    for registration_id, _ in crowd:
        await watch(pool, registration_id)
    await watch(pool, other)
    claimed = await claim_one_by_one(pool)
    expected = [*crowd[:PER_NETWORK], (other, other_mail), *newer, *crowd[PER_NETWORK:]]
    assert claimed == [mail_id for _, mail_id in expected]


async def test_only_unsent_mails_are_watched_for_as_long_as_somebody_says_so(pool: Pool) -> None:
    waiting, waiting_mail = await add(pool, 10)
    done, _ = await add(pool, 10)
    async with pool.connection() as conn:
        await conn.execute(
            "UPDATE mails SET state = 'sent', due_at = NULL, sent_at = now(), sent_as = 'confirm'"
            " WHERE registration_id = %s",
            (done,),
        )
    await watch(pool, waiting, done, uuid4())
    assert await list_watched(pool) == {waiting_mail}
    async with pool.connection() as conn:
        assert await purge_watches(conn, 10) == 0
        await conn.execute("UPDATE mail_watches SET until = now() - interval '1 s'")
        assert await purge_watches(conn, 10) == 1


@pytest.mark.parametrize("kind", ["resend", "login"])
async def test_a_mail_without_a_registration_yet_is_watched_by_who_asked_for_it(
    kind: str, pool: Pool
) -> None:
    registration_id, first = await add(pool, 10)
    again = uuid4()
    async with pool.connection() as conn:
        await conn.execute(
            "INSERT INTO mails (id, kind, email_key, wanted) VALUES (%s, %s, 'a@example.com', %s)",
            (again, kind, registration_id),
        )
    await watch(pool, registration_id)
    assert await list_watched(pool) == {first, again}


async def test_nobody_starves_while_newer_mails_keep_coming(pool: Pool) -> None:
    """None is claimed after more than four times as many mails as were before it, but for a claim or two."""
    room, old = 16, 160
    chance = random.Random(4)
    queue = [(await add(pool, 1000 - number))[1] for number in range(old)]
    precedence, claimed = Precedence(), list[UUID]()
    while not set(queue[:old]) <= set(claimed):
        assert len(claimed) < 6 * old, "an old mail starves"
        limit = chance.randint(room // 2, room)
        async with pool.connection() as conn:
            jobs = await breaker.claim_next(conn, UNKNOWN, limit=limit, precedence=precedence)
        claimed += [job.id for job in jobs]
        queue += [(await add(pool, 500 - len(queue) / 100))[1] for _ in jobs]
    for place, mail_id in enumerate(queue[:old], 1):
        assert claimed.index(mail_id) < 4 * place + 4 * room, place


async def publish(pool: Pool) -> None:
    """Have the broker hold all due mails."""
    async with pool.connection() as conn:
        taken = await publishing.take_for_publishing(conn, 1000)
        await publishing.note_published(conn, taken)


async def test_a_delivery_stands_for_the_best_published_mail(pool: Pool) -> None:
    registered = [await add(pool, age) for age in range(10, 30)]
    mails = [mail_id for _, mail_id in registered]
    await publish(pool)
    await watch(pool, registered[-1][0])
    async with pool.connection() as conn:
        best = [job.id for job in await claim_published(conn, mails[10:14], best=True)]
        oldest = [job.id for job in await claim_published(conn, mails[:2], best=False)]
        rest = [job.id for job in await claim_published(conn, mails, best=True)]
    assert set(best) == {mails[-1], *mails[:3]}
    assert sorted([*best, *oldest, *rest]) == sorted(mails)


async def test_the_oldest_published_mail_is_the_oldest_whenever_it_was_published(pool: Pool) -> None:
    registered = [await add(pool, age) for age in range(10, 14)]
    notice = await add_notice(pool, 11.5)
    async with pool.connection() as conn:
        for _ in range(5):  # the newest first
            await publishing.note_published(conn, await publishing.take_for_publishing(conn, 1, best=True))
        claimed = [job.id for job in await claim_published(conn, [uuid4()] * 3, best=False)]
    assert set(claimed) == {registered[3][1], registered[2][1], notice}


async def test_a_delivery_that_comes_before_its_publishing_is_noted_claims_its_mail(pool: Pool) -> None:
    _, mail_id = await add(pool, 10)
    async with pool.connection() as conn:
        assert await publishing.take_for_publishing(conn, 10) == [mail_id]
        assert [job.id for job in await claim_published(conn, [mail_id], best=True)] == [mail_id]


async def test_the_relay_takes_the_best_first(pool: Pool) -> None:
    registered = [await add(pool, age) for age in range(10, 20)]
    await watch(pool, registered[-1][0])
    async with pool.connection() as conn:
        taken = await publishing.take_for_publishing(conn, 3, best=True)
    assert set(taken) == {registered[-1][1], registered[0][1], registered[1][1]}


@dataclass(frozen=True)
class Delivered:
    """A delivery, as far as it is assigned."""

    mail_id: UUID


def assign(
    delivered: Sequence[UUID], claimed: Sequence[UUID], locked: Sequence[UUID]
) -> list[tuple[UUID, UUID]]:
    deliveries = [Delivered(mail_id) for mail_id in delivered]
    pairs = _assign(deliveries, claimed, locked)  # type: ignore[arg-type]
    return [(delivery.mail_id, mail_id) for delivery, mail_id in pairs]


def test_each_claimed_mail_has_one_delivery_its_own_if_that_is_there() -> None:
    a, b, c, d, e = (uuid4() for _ in range(5))
    assert assign([a, b, c], [c, d], [b]) == [(a, d), (c, c)]
    assert assign([a, a, b], [a], []) == [(a, a), (a, a), (b, b)]
    assert {mail for _, mail in assign([a, b], [d, e], [])} == {d, e}


@dataclass(eq=False)
class Client:
    """A client that waits."""

    seen: int = 0
    sent: bool = False
    woken: list[int] = field(default_factory=list)

    def wake(self) -> None:
        """Note it."""
        self.woken.append(1)


async def test_the_hub_knows_whose_mail_is_not_sent(autojump_clock: trio.testing.MockClock) -> None:
    assert autojump_clock
    hub, first, second, glanced = LiveHub(), uuid4(), uuid4(), uuid4()
    clients = {first: Client(), second: Client()}
    for registration_id, client in clients.items():
        hub.join(registration_id, client)
    assert hub.list_unsent(10) == [second, first]
    assert hub.list_unsent(1) == [second]
    clients[second].sent = True
    hub.glance(glanced)
    assert hub.list_unsent(10) == [glanced, first]
    await trio.sleep(GLANCE + 0.1)
    assert hub.list_unsent(10) == [first]


async def test_a_client_that_waits_or_looks_has_its_mail_watched_and_a_head_does_not(
    database: str, pool: Pool, tmp_path: Path
) -> None:
    async with run_test_service(database, tmp_path, {"REGSVC_ROLE": "api"}) as service:
        urls = []
        for address in ("ann@example.com", "bob@example.com", "cem@example.com"):
            answer = await service.sign_up(address)
            urls.append((answer.headers["Location"], {"Regsvc-Handle": answer.headers["Regsvc-Handle"]}))
        async with pool.connection() as conn:
            cursor = await conn.execute(
                "SELECT m.id FROM mails m JOIN registrations r ON r.id = m.registration_id ORDER BY r.email"
            )
            mails = [row[0] for row in await cursor.fetchall()]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_get, service.client, f"{urls[0][0]}?wait=20", urls[0][1])
            (await service.client.get(urls[1][0], headers=urls[1][1])).raise_for_status()
            await service.client.head(urls[2][0], headers=urls[2][1])
            with trio.fail_after(20):
                while len(await list_watched(pool)) < 2:  # noqa: ASYNC110 - a table has no event
                    await trio.sleep(0.05)
            assert await list_watched(pool) == set(mails[:2])
            nursery.cancel_scope.cancel()


async def _get(client: object, url: str, headers: dict[str, str]) -> None:
    await client.get(url, headers=headers)  # type: ignore[attr-defined]
