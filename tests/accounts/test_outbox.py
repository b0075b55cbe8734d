"""Mails as an operator sees them."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from regsvc.accounts.address import parse_address
from regsvc.accounts.admin import mail_search
from regsvc.accounts.admin.mail_search import Filters
from regsvc.accounts.cursor import Position
from regsvc.accounts.registrations import registration
from regsvc.mail.queue import bookings
from regsvc.mail.queue.bookings import Ended, Retry
from regsvc.postgres.pool import Pool
from tests.accounts.attempts import send, sign_up
from tests.accounts.mails import ALL, delay, execute, get, list_ids, resend, take


async def test_mails_are_listed_page_by_page_the_newest_first(pool: Pool) -> None:
    signed_up = [(await sign_up(pool, f"u{n}@example.com")).mail_id for n in range(7)]
    await execute(pool, "UPDATE mails SET created_at = now()")  # all at once: the id decides
    seen: list[UUID] = []
    after: Position | None = None
    async with pool.connection() as conn:
        for size in (3, 3, 1):
            page = await mail_search.list_mails(conn, ALL, after=after, limit=3)
            assert len(page.rows) == size
            seen += [mail.id for mail in page.rows]
            after = Position.decode(page.next_cursor) if page.next_cursor else None
    assert after is None
    assert seen == sorted(signed_up, key=lambda mail_id: mail_id.bytes, reverse=True)


async def test_a_page_stays_where_it_was_when_mails_are_added(pool: Pool) -> None:
    old = [(await sign_up(pool)).mail_id for _ in range(4)]
    async with pool.connection() as conn:
        first = await mail_search.list_mails(conn, ALL, after=None, limit=2)
        await sign_up(pool)
        assert first.next_cursor is not None
        second = await mail_search.list_mails(conn, ALL, after=Position.decode(first.next_cursor), limit=2)
    assert [mail.id for mail in (*first.rows, *second.rows)] == old[::-1]
    assert second.next_cursor is None


@pytest.mark.parametrize(
    "text", ["", "x", "ä" * 32, "A" * 31, "A" * 33, "A" * 36, "f" + "_" * 31, "+" * 32, "!" * 32, "A" * 4000]
)
def test_what_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a cursor"):
        Position.decode(text)


async def test_filters_find_by_state_kind_and_address(pool: Pool) -> None:
    ann, bob = await sign_up(pool, "Ann@example.com"), await sign_up(pool, "bob@example.com")
    again = await resend(pool, "ann@example.com")
    await send(pool, bob.mail_id)
    assert await list_ids(pool) == [again, bob.mail_id, ann.mail_id]
    assert await list_ids(pool, Filters(state="sent")) == [bob.mail_id]
    assert await list_ids(pool, Filters(kind="resend")) == [again]
    assert await list_ids(pool, Filters(email_key="ann@example.com")) == [again, ann.mail_id]
    assert await list_ids(pool, Filters("queued", "signup", "ann@example.com")) == [ann.mail_id]
    assert await list_ids(pool, Filters(state="dead")) == []
    await execute(pool, "UPDATE registrations SET state = 'expired', password_hash = NULL")
    assert await list_ids(pool, Filters(email_key="bob@example.com")) == [bob.mail_id]


async def test_a_mail_is_shown_with_its_address_and_registration(pool: Pool) -> None:
    new = await sign_up(pool, "Ann@example.com")
    again = await resend(pool, "carl@example.com")
    mail = await get(pool, new.mail_id)
    assert (mail.address, mail.registration, mail.registration_state) == (
        "Ann@example.com",
        new.id,
        "queued",
    )
    mail = await get(pool, again)
    assert (mail.address, mail.registration, mail.registration_state) == ("carl@example.com", None, None)
    with pytest.raises(mail_search.MailNotFoundError):
        await get(pool, uuid4())


async def test_a_mail_to_an_address_that_was_mended_is_not_shown_as_if_to_the_new_one(pool: Pool) -> None:
    new = await sign_up(pool, "anm@example.com")
    mended = uuid4()
    async with pool.transaction() as conn:
        await registration.change_address(conn, new.id, parse_address("ann@example.com"), mended)
    assert (await get(pool, new.mail_id)).address is None
    assert (await get(pool, mended)).address == "ann@example.com"
    assert await list_ids(pool, Filters(email_key="ann@example.com")) == [mended]


async def plan_of(pool: Pool, filters: Filters) -> str:
    """Return how PostgreSQL lists a page of a large table."""
    async with pool.connection() as conn, conn.transaction():
        await conn.execute("SET LOCAL enable_seqscan = off")
        await conn.execute("LOAD 'auto_explain'")
        await conn.execute("SET LOCAL auto_explain.log_min_duration = 0")
        await conn.execute("SET LOCAL client_min_messages = log")
        notices: list[str] = []
        conn.add_notice_handler(lambda notice: notices.append(notice.message_primary or ""))
        await mail_search.list_mails(conn, filters, after=Position.decode("A" * 32), limit=50)
    return "\n".join(notices)


async def test_every_list_has_an_index(pool: Pool) -> None:
    await sign_up(pool)
    assert "mails_age" in await plan_of(pool, ALL)
    for one in (Filters(state="dead"), Filters(kind="forgot"), Filters(state="sent", kind="forgot")):
        assert "mails_listed" in await plan_of(pool, one)
    plan = await plan_of(pool, Filters(email_key="ann@example.com"))
    assert {
        index for index in ("mails_address", "registrations_live", "registrations_over") if index in plan
    } == {
        "mails_address",
        "registrations_live",
        "registrations_over",
    }


async def test_failed_attempts_are_noted_and_the_accepted_one_is_the_row_itself(pool: Pool) -> None:
    new = await sign_up(pool)
    await delay(pool, new.mail_id)
    await execute(pool, "UPDATE mails SET due_at = now()")
    await send(pool, new.mail_id)
    async with pool.connection() as conn:
        tries = await mail_search.list_attempts(conn, new.mail_id)
    assert [(t.attempt, t.outcome, t.stage, t.reason, t.reply) for t in tries] == [
        (1, "delayed", "rcpt", "mailbox_busy", "450 busy"),
        (2, "sent", None, None, "250 ok"),
    ]
    assert tries[0].tried_at < tries[1].tried_at


async def test_what_was_not_tried_is_no_attempt(pool: Pool) -> None:
    held, wanted_no_more = await sign_up(pool), await sign_up(pool)
    held_job, over_job = await take(pool, held.mail_id), await take(pool, wanted_no_more.mail_id)
    async with pool.transaction() as conn:
        assert await bookings.hold_jobs(conn, [Retry(held_job, timedelta(minutes=30), "auth_failed")])
        assert await bookings.book_ended(conn, [Ended(over_job, "cancelled", "registration_over")])
        for new in (held, wanted_no_more):
            assert await mail_search.list_attempts(conn, new.mail_id) == []
    assert (await get(pool, held.mail_id)).attempts == 0


async def test_an_attempt_whose_lease_was_lost_is_not_noted(pool: Pool) -> None:
    new = await sign_up(pool)
    job = await take(pool, new.mail_id)
    await execute(pool, "UPDATE mails SET due_at = now()")
    await send(pool, new.mail_id)
    async with pool.transaction() as conn:
        assert await bookings.book_retries(conn, [Retry(job, timedelta(seconds=5), "timeout")]) == []
        assert [t.outcome for t in await mail_search.list_attempts(conn, new.mail_id)] == ["sent"]
