"""What an operator does about mails: replaying and cancelling."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest
import trio

from regsvc.accounts.address import parse_address
from regsvc.accounts.admin import mail_actions, mail_search
from regsvc.accounts.admin.mail_search import Filters
from regsvc.accounts.audit.record import By
from regsvc.accounts.registrations import mail_status, registration
from regsvc.accounts.registrations.registration import RegistrationOverError
from regsvc.mail.queue import jobs
from regsvc.postgres.listening import wait_notifications
from regsvc.postgres.pool import Pool
from tests.accounts.attempts import send, sign_up
from tests.accounts.mails import delay, end, execute, get, get_registration, list_ids, resend, take

OPERATOR = By("operator")


async def replay(pool: Pool, mail_id: UUID) -> None:
    async with pool.transaction() as conn:
        await mail_actions.replay_mail(conn, mail_id, OPERATOR)


async def replay_dead(pool: Pool, limit: int = 100) -> int:
    async with pool.transaction() as conn:
        return await mail_actions.replay_dead(conn, limit, OPERATOR)


async def cancel(pool: Pool, mail_id: UUID) -> None:
    async with pool.transaction() as conn:
        await mail_actions.cancel_mail(conn, mail_id, OPERATOR)


async def test_a_dead_mail_lives_again_and_its_registration_waits_again(pool: Pool) -> None:
    new = await sign_up(pool)
    await execute(pool, "UPDATE mails SET created_at = now() - interval '3 days'")
    await execute(pool, "UPDATE registrations SET address_since = now() - interval '4 days'")
    await end(pool, new.mail_id)
    before = await get_registration(pool, new.id)
    assert (before.state, before.reason) == ("bounced", "gave_up")

    await replay(pool, new.mail_id)
    mail, shown = await get(pool, new.mail_id), await get_registration(pool, new.id)
    assert (mail.state, mail.attempts, mail.reason, mail.reply) == ("queued", 0, None, None)
    assert mail.replayed_at is not None
    assert (shown.state, shown.reason, shown.seq) == ("queued", None, before.seq + 1)
    job = await take(pool, new.mail_id)
    assert (job.attempts, job.given_up) == (1, False)


async def test_the_48_hours_of_a_replayed_mail_begin_with_the_replay(pool: Pool) -> None:
    new = await sign_up(pool)
    await end(pool, new.mail_id)
    await replay(pool, new.mail_id)
    await execute(
        pool, "UPDATE mails SET created_at = now() - interval '9 days', replayed_at = now() - interval '48 h'"
    )
    assert (await take(pool, new.mail_id)).given_up


async def test_a_registration_whose_mail_is_replayed_outlives_the_replay(pool: Pool) -> None:
    new = await sign_up(pool)
    await end(pool, new.mail_id)
    await execute(pool, "UPDATE registrations SET created_at = now() - interval '71 hours'")
    await replay(pool, new.mail_id)
    await execute(pool, "UPDATE registrations SET created_at = now() - interval '5 days'")
    async with pool.connection() as conn:
        assert await registration.expire_registrations(conn, 10) == 0
    await send(pool, new.mail_id)
    shown = await get_registration(pool, new.id)
    assert shown.state == "sent"
    assert shown.expires_at is not None
    assert shown.expires_at - shown.changed_at == registration.LINK_LIFE


async def test_a_sent_mail_is_sent_again_and_its_first_acceptance_is_remembered(pool: Pool) -> None:
    new = await sign_up(pool)
    await send(pool, new.mail_id)
    await replay(pool, new.mail_id)
    assert (await get_registration(pool, new.id)).state == "queued"
    await send(pool, new.mail_id)
    async with pool.connection() as conn:
        tries = await mail_search.list_attempts(conn, new.mail_id)
    assert [(t.attempt, t.outcome, t.reply) for t in tries] == [(1, "sent", "250 ok")] * 2
    assert (await get_registration(pool, new.id)).state == "sent"


async def test_a_mail_that_was_held_back_is_let_through_and_shown_again(pool: Pool) -> None:
    new = await sign_up(pool)
    await execute(
        pool,
        "UPDATE mails SET state = 'delayed', silent = true, reason = 'held_back', due_at = now() + interval '1 day'",
    )
    await replay(pool, new.mail_id)
    async with pool.transaction() as conn:
        await jobs.claim_mails(conn, [new.mail_id])
        (letter,) = await mail_status.begin_sending(conn, [new.mail_id])
    assert (letter.admitted, letter.silent) == (True, False)


@pytest.mark.parametrize("state", ["confirmed", "expired", "repudiated"])
async def test_nothing_is_replayed_for_a_registration_that_is_over(pool: Pool, state: str) -> None:
    new = await sign_up(pool)
    await end(pool, new.mail_id)
    await execute(pool, f"UPDATE registrations SET state = '{state}', password_hash = NULL")
    with pytest.raises(RegistrationOverError):
        await replay(pool, new.mail_id)
    assert await replay_dead(pool) == 0
    assert (await get(pool, new.mail_id)).state == "dead"


async def test_nothing_is_replayed_to_an_address_that_was_mended(pool: Pool) -> None:
    """Its code was mailed to somebody else, and confirms nothing any more."""
    new = await sign_up(pool, "anm@example.com")
    await end(pool, new.mail_id)
    async with pool.transaction() as conn:
        await registration.change_address(conn, new.id, parse_address("ann@example.com"), uuid4())
    with pytest.raises(RegistrationOverError):
        await replay(pool, new.mail_id)
    assert await replay_dead(pool) == 0


async def test_a_mail_in_hand_is_neither_replayed_nor_cancelled(pool: Pool) -> None:
    new = await sign_up(pool)
    await take(pool, new.mail_id)
    for act in (replay, cancel):
        with pytest.raises(mail_actions.MailInHandError):
            await act(pool, new.mail_id)
    await execute(pool, "UPDATE mails SET due_at = now()")  # its sender fell silent
    with pytest.raises(mail_actions.MailInHandError):
        await cancel(pool, new.mail_id)  # it may have been sent
    await replay(pool, new.mail_id)
    assert (await get(pool, new.mail_id)).state == "queued"


async def test_a_mail_that_is_nobodys_yet_is_replayed_without_a_registration(pool: Pool) -> None:
    mail_id = await resend(pool, "carl@example.com")
    await execute(pool, "UPDATE mails SET state = 'cancelled', due_at = NULL, reason = 'registration_over'")
    await replay(pool, mail_id)
    assert (await get(pool, mail_id)).state == "queued"


async def test_a_mail_of_another_system_is_replayed_while_its_link_is_known(pool: Pool) -> None:
    mail_id = uuid4()
    await execute(
        pool,
        f"""
        INSERT INTO mails (id, kind, email, email_key, foreign_token, state, due_at, reason)
        VALUES ('{mail_id}', 'foreign', 'Ann@example.com', 'ann@example.com', 'sealed', 'dead', NULL, 'timeout')
        """,
    )
    assert await replay_dead(pool) == 1
    assert (await get(pool, mail_id)).address == "Ann@example.com"
    assert await list_ids(pool, Filters("queued", "foreign", "ann@example.com")) == [mail_id]
    await cancel(pool, mail_id)
    with pytest.raises(RegistrationOverError):
        await replay(pool, mail_id)


async def test_the_dead_are_replayed_some_at_a_time_the_oldest_first(pool: Pool) -> None:
    dead = [(await sign_up(pool)).mail_id for _ in range(5)]
    for mail_id in dead:
        await end(pool, mail_id)
    bounced = await sign_up(pool)
    await end(pool, bounced.mail_id, "bounced")
    assert await replay_dead(pool, 3) == 3
    assert await list_ids(pool, Filters(state="dead")) == [dead[4], dead[3]]
    assert [await replay_dead(pool, 3), await replay_dead(pool, 3)] == [2, 0]
    assert (await get(pool, bounced.mail_id)).state == "bounced"


async def test_whoever_sends_and_whoever_waits_hear_of_a_replay(pool: Pool) -> None:
    new = await sign_up(pool)
    await end(pool, new.mail_id)
    heard: list[tuple[str, str]] = []
    async with pool.connection() as conn:
        await conn.execute("LISTEN mail_due; LISTEN registration_state")
        await replay(pool, new.mail_id)
        with trio.fail_after(10):
            while len(heard) < 2:
                heard += [(notify.channel, notify.payload) for notify in await wait_notifications(conn)]
    seq = (await get_registration(pool, new.id)).seq
    assert sorted(heard) == [("mail_due", ""), ("registration_state", f"{new.id}:{seq}")]


@pytest.mark.parametrize("delayed", [False, True])
async def test_a_cancelled_mail_is_not_sent_and_whoever_waits_is_told(pool: Pool, *, delayed: bool) -> None:
    new = await sign_up(pool)
    if delayed:
        await delay(pool, new.mail_id)
    before = await get_registration(pool, new.id)
    await cancel(pool, new.mail_id)
    mail, shown = await get(pool, new.mail_id), await get_registration(pool, new.id)
    assert (mail.state, mail.reason, mail.due_at) == ("cancelled", mail_actions.CANCELLED, None)
    assert (shown.state, shown.reason, shown.seq) == ("bounced", mail_actions.CANCELLED, before.seq + 1)
    assert shown.next_try_at is None
    with pytest.raises(mail_actions.MailOverError):
        await cancel(pool, new.mail_id)
    async with pool.connection() as conn:
        assert await jobs.claim_mails(conn, [new.mail_id]) == []


async def take_resend(pool: Pool, mail_id: UUID) -> None:
    """Decide whose a mail is that was asked for by address, and let it wait for its next try."""
    async with pool.transaction() as conn:
        await mail_status.choose_attempts(conn, [mail_id])
    await delay(pool, mail_id)


async def test_cancelling_one_of_two_mails_leaves_the_other_to_be_waited_for(pool: Pool) -> None:
    new = await sign_up(pool)
    again = await resend(pool, "ann@example.com")
    await take_resend(pool, again)
    before = await get_registration(pool, new.id)
    await cancel(pool, again)
    assert await get_registration(pool, new.id) == before
    await cancel(pool, new.mail_id)
    assert (await get_registration(pool, new.id)).state == "bounced"


async def test_cancelling_the_second_mail_shows_that_the_first_was_sent(pool: Pool) -> None:
    new = await sign_up(pool)
    await send(pool, new.mail_id)
    again = await resend(pool, "ann@example.com")
    await take_resend(pool, again)
    assert (await get_registration(pool, new.id)).state == "delayed"
    await cancel(pool, again)
    shown = await get_registration(pool, new.id)
    assert (shown.state, shown.reason, shown.next_try_at) == ("sent", None, None)


async def test_cancelling_what_is_held_back_shows_nothing(pool: Pool) -> None:
    new = await sign_up(pool)
    await execute(pool, "UPDATE mails SET silent = true")
    before = await get_registration(pool, new.id)
    await cancel(pool, new.mail_id)
    assert await get_registration(pool, new.id) == before


async def test_a_sent_mail_cannot_be_cancelled_nor_one_that_is_not_there(pool: Pool) -> None:
    new = await sign_up(pool)
    await send(pool, new.mail_id)
    with pytest.raises(mail_actions.MailOverError):
        await cancel(pool, new.mail_id)
    for act in (replay, cancel):
        with pytest.raises(mail_search.MailNotFoundError):
            await act(pool, uuid4())


async def test_a_cancelled_mail_can_be_replayed(pool: Pool) -> None:
    new = await sign_up(pool)
    await cancel(pool, new.mail_id)
    await replay(pool, new.mail_id)
    assert await send(pool, new.mail_id) == "confirm"
    assert (await get_registration(pool, new.id)).state == "sent"
