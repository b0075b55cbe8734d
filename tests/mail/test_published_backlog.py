"""A broker that lost its disk, or is gone, beside a long line of mails that it was given."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from regsvc.consumer.relay import run_relay
from regsvc.errors import BrokerUnavailableError
from regsvc.mail.queue import publishing
from regsvc.mail.queue.publishing import BATCH, Review
from regsvc.postgres.pool import Pool
from tests.suite.ports import take_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.timeout(120)

MANY = 30_000
_PUBLISHED = f"""
    INSERT INTO mails (id, kind, email_key, state, due_at, published_at)
    SELECT gen_random_uuid(), 'resend', format('user%s@example.com', n), 'queued',
           now() + interval '4 minutes', now() - interval '1 minute'
      FROM generate_series(1, {MANY}) n
"""


async def count(pool: Pool, which: str) -> int:
    async with pool.connection() as conn:
        cursor = await conn.execute(f"SELECT count(*) FROM mails WHERE {which}".encode())
        (found,) = await cursor.fetchone() or (0,)
        return int(found)


@pytest.fixture
async def hurried(database: str, pool: Pool) -> AsyncIterator[Pool]:
    """A pool whose blocks have a seventh of the usual time, beside more mails than one statement changes in it."""
    async with pool.connection(limit=60) as conn:
        await conn.execute(_PUBLISHED.encode())
        await conn.execute(b"ANALYZE mails")
    hurried = Pool(database, application_name="regsvc test", limit=0.8)
    yield hurried
    await hurried.aclose()


async def test_a_relay_begins_beside_many_mails_of_a_queue_that_came_back_empty(
    database: str, pool: Pool, hurried: Pool, amqp_url: str
) -> None:
    stopping = trio.Event()

    async def relay() -> None:
        await run_relay(pool=hurried, conninfo=database, url=amqp_url, stopping=stopping)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(relay)
        with trio.fail_after(90):
            while await count(pool, "published_at < now() - interval '1 minute'"):  # noqa: ASYNC110 - a table has no event
                await trio.sleep(0.1)
            while not await count(pool, "published_at > now() - interval '1 minute'"):  # noqa: ASYNC110 - likewise
                await trio.sleep(0.1)
        stopping.set()


async def test_a_relay_whose_broker_is_gone_gives_many_mails_to_the_mailer(
    database: str, pool: Pool, hurried: Pool
) -> None:
    nobody = f"amqp://127.0.0.1:{take_port()}/"
    with trio.fail_after(90):
        while await count(pool, "due_at > now()"):
            with pytest.RaisesGroup(BrokerUnavailableError):
                await run_relay(pool=hurried, conninfo=database, url=nobody, stopping=trio.Event())


async def test_every_batch_is_bounded(pool: Pool, hurried: Pool) -> None:
    async with hurried.connection() as conn:
        assert await publishing.strand_published(conn) == BATCH
    async with hurried.connection() as conn:
        assert await publishing.release_published(conn) == BATCH
    async with pool.connection(limit=60) as conn:
        await conn.execute(
            "UPDATE mails SET due_at = now() - interval '1 hour', published_at = now() - interval '1 hour'"
        )
    async with hurried.transaction() as conn:
        assert await publishing.review_published(conn, ready=10) == Review(released=BATCH)
    async with hurried.transaction() as conn:
        assert await publishing.review_published(conn, ready=publishing.REVIEWED + 1) == Review()
