"""Tags bring no more mail: tagged addresses of one mailbox have turns of their own, and share another schedule."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from regsvc.accounts.mails.turns import take_turns
from regsvc.accounts.registrations import mail_status
from regsvc.mail.queue import bookings, jobs
from regsvc.mail.queue.bookings import Held
from regsvc.postgres.pool import Pool
from tests.accounts.attempts import SECRETS, sign_up

AT_ONCE = 5


async def sign_up_all(pool: Pool, addresses: Sequence[str]) -> dict[UUID, str]:
    """Return the mails of these sign-ups with their addresses."""
    return {(await sign_up(pool, address)).mail_id: address for address in addresses}


async def let_through(pool: Pool, mails: dict[UUID, str]) -> list[str]:
    """Claim these mails, book those that wait, and return the addresses of the others."""
    async with pool.transaction() as conn:
        claimed = await jobs.claim_mails(conn, list(mails))
        begun = {letter.mail_id: letter for letter in await mail_status.begin_sending(conn, list(mails))}
        held, later = await take_turns(conn, SECRETS, claimed, dict(begun))
        assert later == []
        await bookings.book_held(conn, [Held(job, held[job.id].at) for job in claimed if job.id in held])
    return sorted(mails[job.id] for job in claimed if job.id not in held)


async def wait(pool: Pool) -> None:
    """Let two hours pass on every schedule."""
    async with pool.connection() as conn:
        await conn.execute("UPDATE mail_schedules SET last_at = last_at - interval '2 hours'")
        await conn.execute("UPDATE mails SET due_at = now() WHERE state = 'delayed'")


async def test_twenty_tags_are_not_twenty_mails(pool: Pool) -> None:
    """In one claim or in several; none of those that wait is given up for another spelling."""
    mails = await sign_up_all(pool, [f"victim+{number}@example.com" for number in range(20)])
    ids = list(mails)
    sent = await let_through(pool, {id_: mails[id_] for id_ in ids[:12]})
    assert len(sent) == AT_ONCE
    assert await let_through(pool, {id_: mails[id_] for id_ in ids[12:]}) == []
    async with pool.connection() as conn:
        states = await (await conn.execute("SELECT state, count(*) FROM mails GROUP BY state")).fetchall()
    assert dict(states) == {"sending": AT_ONCE, "delayed": 20 - AT_ONCE}
    waiting = {id_: address for id_, address in mails.items() if address not in sent}
    await wait(pool)
    assert len(await let_through(pool, waiting)) == 1


async def test_others_keep_their_turns(pool: Pool) -> None:
    """The address without a tag, another mailbox, and the same tag elsewhere."""
    await let_through(pool, await sign_up_all(pool, [f"victim+{number}@example.com" for number in range(9)]))
    others = ["victim@example.com", "victim+1@example.org", "victor+1@example.com", "+1@example.com"]
    assert await let_through(pool, await sign_up_all(pool, others)) == sorted(others)


async def test_a_mail_whose_own_address_must_wait_takes_no_turn_of_the_others(pool: Pool) -> None:
    first = await sign_up_all(pool, ["victim+a@example.com"])
    assert await let_through(pool, first) == ["victim+a@example.com"]
    for _ in range(3):
        assert await let_through(pool, await sign_up_all(pool, ["victim+a@example.com"])) == []
    more = [f"victim+{number}@example.com" for number in range(9)]
    assert len(await let_through(pool, await sign_up_all(pool, more))) == AT_ONCE - 1


async def test_of_several_mails_to_one_tagged_address_the_newest_has_the_turn(pool: Pool) -> None:
    mails = await sign_up_all(pool, ["victim+a@example.com"] * 2)
    assert await let_through(pool, mails) == ["victim+a@example.com"]
    async with pool.connection() as conn:
        rows = await (await conn.execute("SELECT id, state FROM mails")).fetchall()
    assert dict(rows) == dict(zip(mails, ["delayed", "sending"], strict=True))
