"""Mails about an account: to whom they go, decided when they are taken in hand."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import UUID, uuid4

import psycopg
import pytest

from regsvc.accounts.admin import mail_actions
from regsvc.accounts.admin.mail_search import Filters
from regsvc.accounts.audit.record import By
from regsvc.accounts.mails import account_mails
from regsvc.accounts.mails.account_mails import AccountLetter
from regsvc.accounts.registrations import mail_status
from regsvc.accounts.users import password_reset
from regsvc.accounts.users.notices import Notice, add_notice
from regsvc.mail.queue import bookings, jobs, leases
from regsvc.mail.queue.bookings import Held, Sent
from regsvc.mail.queue.jobs import Job
from regsvc.postgres.listening import wait_notifications
from regsvc.postgres.pool import Pool
from regsvc.security.tokens import read_account_token
from tests.accounts.attempts import SECRETS, sign_up
from tests.accounts.mails import execute, get, list_ids
from tests.accounts.users import add_user

OPERATOR = By("operator")

BY = By("anonymous", origin="192.0.2.0/24", client="Firefox on Linux")


async def notify(pool: Pool, user_id: UUID, notice: Notice = "password_changed") -> UUID | None:
    """Book a notice and return its id."""
    before = set(await list_ids(pool))
    async with pool.transaction() as conn:
        await add_notice(conn, user_id, notice, BY)
    return next(iter(set(await list_ids(pool)) - before), None)


async def forget(pool: Pool, email_key: str = "ann@example.com") -> UUID:
    """Ask for a link as somebody who forgot their password does."""
    mail_id = uuid4()
    async with pool.transaction() as conn:
        await password_reset.add_forgot(conn, mail_id, email_key, BY)
    return mail_id


async def take(pool: Pool, mail_id: UUID) -> tuple[Job, list[AccountLetter]]:
    """Claim a mail the way whoever sends does."""
    async with pool.transaction() as conn:
        (job,) = await jobs.claim_mails(conn, [mail_id])
        await mail_status.choose_attempts(conn, [mail_id])
        await account_mails.choose_accounts(conn, SECRETS, [mail_id])
        letters = await account_mails.begin_sending_account(conn, [mail_id])
        assert await mail_status.begin_sending(conn, [mail_id]) == []
    return job, letters


async def test_a_notice_goes_to_the_address_that_the_account_had(pool: Pool) -> None:
    user_id = await add_user(pool, locale="de")
    mail_id = await notify(pool, user_id)
    assert mail_id is not None
    await execute(pool, "UPDATE users SET email = 'x@example.com', email_key = 'x@example.com'")
    _, (letter,) = await take(pool, mail_id)
    assert (letter.email, letter.email_key, letter.locale) == ("Ann@example.com", "ann@example.com", "de")
    assert (letter.sent_as, letter.origin, letter.client) == (
        "password_changed",
        "192.0.2.0/24",
        "Firefox on Linux",
    )
    assert letter.admitted
    assert datetime.now(UTC) - letter.created_at < timedelta(minutes=1)


async def test_a_notice_to_nobody_is_none(pool: Pool) -> None:
    assert await notify(pool, uuid4()) is None


async def test_whoever_sends_hears_of_a_notice_and_of_a_forgotten_password(pool: Pool) -> None:
    user_id = await add_user(pool)
    async with pool.connection(limit=10) as conn:
        await conn.execute("LISTEN mail_due")
        for book in (partial(notify, pool, user_id), partial(forget, pool)):
            await book()
            assert [heard.channel for heard in await wait_notifications(conn)] == ["mail_due"]


async def test_a_link_for_a_forgotten_password_goes_to_whoever_has_the_account(pool: Pool) -> None:
    user_id = await add_user(pool)
    mail_id = await forget(pool)
    _, (letter,) = await take(pool, mail_id)
    assert (letter.user_id, letter.email, letter.sent_as) == (user_id, "Ann@example.com", "password_reset")
    text, life = letter.mint_link(SECRETS)
    token = read_account_token(text)
    assert token is not None
    assert (token.id, life) == (mail_id, timedelta(minutes=30))
    assert token.proves(SECRETS, "password-reset", str(user_id), "ann@example.com", "hash")
    assert not token.proves(SECRETS, "password-reset", str(user_id), "ann@example.com", "other")
    assert not token.proves(SECRETS, "email-change", str(user_id), "ann@example.com", "hash")


async def test_nobody_else_gets_one(pool: Pool) -> None:
    """Neither where there is no account, nor where a sign-up waits, nor where the account is disabled."""
    await sign_up(pool, "bob@example.com")
    await add_user(pool, "carl@example.com")
    await execute(pool, "UPDATE users SET disabled_at = now()")
    for address in ("nobody@example.com", "bob@example.com", "carl@example.com"):
        _, letters = await take(pool, await forget(pool, address))
        assert letters == []


async def test_an_account_that_has_moved_gets_no_link_at_the_address_before(pool: Pool) -> None:
    await add_user(pool)
    mail_id = await forget(pool)
    job, letters = await take(pool, mail_id)
    assert letters
    async with pool.transaction() as conn:
        await leases.release_jobs(conn, [job])
    await execute(pool, "UPDATE users SET email = 'x@example.com', email_key = 'x@example.com'")
    _, letters = await take(pool, mail_id)
    assert letters == []


async def test_of_links_that_wait_for_their_turn_the_newest_stays_and_other_mails_are_left_alone(
    pool: Pool,
) -> None:
    await add_user(pool)
    signed_up = await sign_up(pool)
    await execute(
        pool, "UPDATE mails SET state = 'delayed', reason = 'held_back', silent = true, due_at = now()"
    )
    held = [await forget(pool) for _ in range(3)]
    for mail_id in held:
        job, _ = await take(pool, mail_id)
        async with pool.transaction() as conn:
            await bookings.book_held(conn, [Held(job, datetime.now(UTC) + timedelta(hours=1))])
    assert [(await get(pool, mail_id)).state for mail_id in held] == ["cancelled", "cancelled", "delayed"]
    assert (await get(pool, signed_up.mail_id)).state == "delayed"


async def test_mails_of_an_account_are_seen_and_replayed_like_others(pool: Pool) -> None:
    mail_id = await notify(pool, await add_user(pool))
    assert mail_id is not None
    job, (letter,) = await take(pool, mail_id)
    async with pool.transaction() as conn:
        await mail_status.show_sent(
            conn, await bookings.book_sent(conn, [(Sent(job, "250 ok"), letter.sent_as)])
        )
    found = await get(pool, mail_id)
    assert (found.kind, found.sent_as, found.address) == ("notice", "password_changed", "Ann@example.com")
    assert await list_ids(pool, Filters(kind="notice", email_key="ann@example.com")) == [mail_id]
    async with pool.transaction() as conn:
        await mail_actions.replay_mail(conn, mail_id, OPERATOR)
    _, (again,) = await take(pool, mail_id)
    assert again == replace(letter, admitted=True)


async def test_mails_of_an_account_go_with_it(pool: Pool) -> None:
    user_id = await add_user(pool)
    await notify(pool, user_id)
    await take(pool, await forget(pool))
    await execute(pool, "DELETE FROM users")
    assert await list_ids(pool) == []


@pytest.mark.parametrize(
    "change", ["user_id = NULL", "email = NULL", "notice = NULL", "notice = 'x'", "notice = 'email_changed'"]
)
async def test_a_notice_that_makes_no_sense_is_not_stored(pool: Pool, change: str) -> None:
    await notify(pool, await add_user(pool))
    with pytest.raises(psycopg.errors.CheckViolation):
        await execute(pool, f"UPDATE mails SET {change}")


async def test_a_link_that_is_asked_for_while_its_account_is_being_deleted_goes_to_nobody(pool: Pool) -> None:
    await add_user(pool)
    mail_id = await forget(pool)
    async with pool.transaction() as deleting:
        await deleting.execute("DELETE FROM users")
        # Nothing waits for the other transaction: the mail is still wanted, and given back for later.
        async with pool.transaction() as conn:
            await account_mails.choose_accounts(conn, SECRETS, [mail_id])
            assert await account_mails.begin_sending_account(conn, [mail_id]) == []
            assert await mail_status.find_wanted(conn, [mail_id]) == {mail_id}
    assert (await take(pool, mail_id))[1] == []
    async with pool.connection() as conn:
        assert await mail_status.find_wanted(conn, [mail_id]) == set()
