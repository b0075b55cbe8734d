"""Mails of tests: brought into the state that is wanted, and looked at as an operator does."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID, uuid4

import trio

from regsvc.accounts.admin import mail_search
from regsvc.accounts.admin.mail_search import Filters, OutboxMail
from regsvc.accounts.registrations import mail_status, registration
from regsvc.accounts.registrations.registration import Registration
from regsvc.mail.queue import bookings, jobs
from regsvc.mail.queue.bookings import Ended, Retry
from regsvc.mail.queue.jobs import Job
from regsvc.postgres.pool import Pool

ALL = Filters()


async def execute(pool: Pool, statement: str) -> None:
    async with pool.connection() as conn:
        await conn.execute(statement.encode())


async def get(pool: Pool, mail_id: UUID) -> OutboxMail:
    async with pool.connection() as conn:
        return await mail_search.get_mail(conn, mail_id)


async def get_registration(pool: Pool, registration_id: UUID) -> Registration:
    async with pool.connection() as conn:
        found = await registration.get_registration(conn, registration_id)
    assert found is not None
    return found


async def list_ids(pool: Pool, filters: Filters = ALL) -> list[UUID]:
    async with pool.connection() as conn:
        return [mail.id for mail in (await mail_search.list_mails(conn, filters, after=None, limit=50)).rows]


async def take(pool: Pool, mail_id: UUID) -> Job:
    """Claim a mail and show it as being sent."""
    async with pool.transaction() as conn:
        (job,) = await jobs.claim_mails(conn, [mail_id])
        assert await mail_status.begin_sending(conn, [mail_id])
    return job


async def delay(pool: Pool, mail_id: UUID) -> None:
    job = await take(pool, mail_id)
    retry = Retry(job, timedelta(seconds=30), "mailbox_busy", "450 busy", "rcpt")
    async with pool.transaction() as conn:
        await mail_status.show_delayed(conn, await bookings.book_retries(conn, [retry]))


async def end(pool: Pool, mail_id: UUID, state: bookings.Ending = "dead") -> None:
    job = await take(pool, mail_id)
    ended = Ended(job, state, "connect_failed", "no route", "connect")
    async with pool.transaction() as conn:
        await mail_status.show_bounced(conn, await bookings.book_ended(conn, [ended]))


async def resend(pool: Pool, email_key: str) -> UUID:
    mail_id = uuid4()
    async with pool.transaction() as conn:
        await jobs.add_resend(conn, mail_id, email_key, wanted=None)
    return mail_id


async def wait_blocked(pool: Pool) -> None:
    """Wait until some statement waits for another transaction."""
    with trio.fail_after(30):
        async with pool.connection(limit=30) as conn:
            blocked = "SELECT 1 FROM pg_stat_activity WHERE cardinality(pg_blocking_pids(pid)) > 0"
            while (await (await conn.execute(blocked)).fetchone()) is None:  # noqa: ASYNC110 - a lock has no event
                await trio.sleep(0.01)
