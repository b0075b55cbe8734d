"""Mails to suppressed addresses: what their attempts show, what they use up, and which of them go."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
import trio

from regsvc.accounts.audit.record import By
from regsvc.accounts.deliveries import suppression
from regsvc.accounts.deliveries.unsent import show_due_facts
from regsvc.accounts.users.password_reset import add_forgot
from regsvc.mail.queue import families
from regsvc.mail.reports.report import Clues, Event, Report
from tests.accounts import mails
from tests.accounts.attempts import SECRETS, sign_up
from tests.accounts.test_reports import tell
from tests.accounts.users import add_user
from tests.mail.test_courier import run_sending, wait_state
from tests.smtp_servers import ScriptedServer

if TYPE_CHECKING:
    from uuid import UUID

    from regsvc.postgres.pool import Pool

OPERATOR = By("operator")


async def report(pool: Pool, mail_id: UUID, event: Event, minutes: float = 0) -> None:
    clues = Clues(message_ids=(f"<{mail_id}@example.org>",))
    at = datetime.now(UTC) - timedelta(hours=1) + timedelta(minutes=minutes)
    kind, reason = ("hard", "no_such_mailbox") if event == "bounced" else (None, None)
    told = Report("dsn", f"{mail_id}/{event}", event, at, kind, reason, clues)  # type: ignore[arg-type]
    assert await tell(pool, told) == "applied"


async def wait_shown(pool: Pool, registration_id: UUID, state: str) -> None:
    with trio.fail_after(20):
        while (await mails.get_registration(pool, registration_id)).state != state:  # noqa: ASYNC110 - in the database
            await trio.sleep(0.02)


async def show_facts(pool: Pool) -> None:
    await mails.execute(pool, "UPDATE registration_facts SET due_at = now()")
    async with pool.transaction() as conn:
        await show_due_facts(conn, 10)


async def test_after_a_complaint_attempts_stay_sent_whatever_becomes_of_the_last_mail(
    pool: Pool, database: str
) -> None:
    """The mail that has the turn bounces late: neither the held attempt nor one that gave way to it shows that."""
    server = ScriptedServer()
    async with server.running(), run_sending(pool, database, server, spaced=True):
        first = await sign_up(pool)
        await wait_state(pool, first.mail_id, "sent")
        await report(pool, first.mail_id, "complained")
        second, third = await sign_up(pool), await sign_up(pool)
        for attempt in (second, third):
            await wait_shown(pool, attempt.id, "sent")
        await wait_state(pool, second.mail_id, "cancelled")
        await report(pool, first.mail_id, "bounced", 1)
        await show_facts(pool)
        assert (await mails.get_registration(pool, first.id)).state == "bounced"
        for attempt in (second, third):
            assert (await mails.get_registration(pool, attempt.id)).state == "sent"
    assert len(server.mails) == 1


async def test_after_a_bounce_attempts_end_bounced_whatever_becomes_of_the_last_mail(
    pool: Pool, database: str
) -> None:
    """A late report of delivery of the mail that has the turn keeps a suppressed attempt from nothing."""
    server = ScriptedServer()
    async with server.running(), run_sending(pool, database, server, spaced=True):
        first = await sign_up(pool)
        await wait_state(pool, first.mail_id, "sent")
        await report(pool, first.mail_id, "bounced")
        second = await sign_up(pool)
        await wait_shown(pool, second.id, "sent")
        await report(pool, first.mail_id, "delivered", 1)
        assert (await mails.get_registration(pool, first.id)).state == "sent"
        await show_facts(pool)
        assert (await mails.get_registration(pool, second.id)).state == "bounced"


async def test_an_attempt_that_gave_way_follows_the_mail_that_has_the_turn(pool: Pool, database: str) -> None:
    """Of two that wait for a turn one is dropped; both show the same."""
    server = ScriptedServer()
    async with server.running(), run_sending(pool, database, server, spaced=True):
        first = await sign_up(pool)
        await wait_state(pool, first.mail_id, "sent")
        second = await sign_up(pool)
        await wait_shown(pool, second.id, "sent")
        third = await sign_up(pool)
        await wait_shown(pool, third.id, "sent")
        await wait_state(pool, second.mail_id, "cancelled")
        await report(pool, first.mail_id, "bounced")
        shown = [(await mails.get_registration(pool, attempt.id)).state for attempt in (second, third)]
        assert shown == ["bounced", "bounced"]


@pytest.mark.parametrize("why", ["complaint", "turn"])
async def test_a_mail_that_is_not_sent_tests_no_family(pool: Pool, database: str, why: str) -> None:
    """The one test a minute of a receiver that throttles goes to a mail that is offered to it."""
    server = ScriptedServer()
    async with server.running(), run_sending(pool, database, server, spaced=True):
        if why == "turn":
            leader = await sign_up(pool, "one@gmail.com")
            await wait_state(pool, leader.mail_id, "sent")
        else:
            async with pool.transaction() as conn:
                await suppression.note_complaint(conn, SECRETS, "one@gmail.com", at=datetime.now(UTC))
        async with pool.connection() as conn:
            await families.hold_families(conn, ["google"])
            await conn.execute("UPDATE mail_families SET probe_at = now()")
        unsent = await sign_up(pool, "one@gmail.com")
        await wait_shown(pool, unsent.id, "delayed" if why == "complaint" else "sent")
        tester = await sign_up(pool, "two@gmail.com")
        await wait_state(pool, tester.mail_id, "sent")
    assert [mail.recipient for mail in server.mails][-1] == "two@gmail.com"


async def test_a_mail_that_may_pass_once_a_day_passes_at_every_try(pool: Pool, database: str) -> None:
    """A reset to an address that bounced is greylisted: its second try is the same mail. Another one does not go."""
    await add_user(pool, "ann@example.com")
    async with pool.transaction() as conn:
        await suppression.note_bounce(
            conn, SECRETS, "ann@example.com", kind="hard", reason=None, at=datetime.now(UTC)
        )
    server = ScriptedServer({"RCPT": ["450 4.2.0 Greylisted"]})
    async with server.running(), run_sending(pool, database, server):
        reset, another = uuid4(), uuid4()
        async with pool.transaction() as conn:
            await add_forgot(conn, reset, "ann@example.com", OPERATOR, admitted=True)
        await wait_state(pool, reset, "delayed")
        await mails.execute(pool, "UPDATE mails SET due_at = now() WHERE state = 'delayed'")
        await wait_state(pool, reset, "sent")
        async with pool.transaction() as conn:
            await add_forgot(conn, another, "ann@example.com", OPERATOR, admitted=True)
        await wait_state(pool, another, "cancelled")
