"""Mending an address while its mail is being taken in hand."""

from __future__ import annotations

from uuid import uuid4

import trio

from regsvc.accounts.address import parse_address
from regsvc.accounts.registrations import mail_status, registration
from regsvc.mail.queue import jobs
from regsvc.postgres.pool import Pool
from tests.accounts.attempts import sign_up, state_of


async def test_a_sender_and_a_change_of_address_never_wait_for_each_other(pool: Pool) -> None:
    new = await sign_up(pool)

    async def mend(pid: trio.MemorySendChannel[int]) -> None:
        async with pool.transaction() as conn:
            await pid.send(conn.info.backend_pid)
            await registration.change_address(conn, new.id, parse_address("ann.b@example.com"), uuid4())

    async with trio.open_nursery() as nursery, pool.transaction() as conn:
        await jobs.claim_mails(conn, [new.mail_id])
        send, receive = trio.open_memory_channel[int](1)
        nursery.start_soon(mend, send)
        await wait_until_blocked(pool, await receive.receive())
        await mail_status.begin_sending(conn, [new.mail_id])
    assert await state_of(pool, new.id) == "queued"


async def wait_until_blocked(pool: Pool, pid: int) -> None:
    """Wait until a connection waits for a lock."""
    with trio.fail_after(10):
        async with pool.connection() as conn:
            blocked = False
            while not blocked:
                cursor = await conn.execute("SELECT cardinality(pg_blocking_pids(%(pid)s)) > 0", {"pid": pid})
                blocked = bool((await cursor.fetchone() or (False,))[0])
