"""The courier: what it has in hand, whatever ends it or those who claim."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from email.headerregistry import Address
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import structlog.testing
import trio

from regsvc.consumer import mailer
from regsvc.consumer.mailer import AT_ONCE, run_mailer
from regsvc.consumer.sending.courier import Courier
from regsvc.consumer.sending.letters import LetterWriter
from regsvc.jobs.claims import seconds_until_due
from regsvc.mail.message.render import Renderer
from regsvc.mail.outcome import Delayed
from regsvc.mail.queue import breaker
from regsvc.mail.queue.verdict import OPENS_AT, Evidence
from regsvc.mail.transport import open_transport
from regsvc.supervisor import Backoff, Child, Supervisor
from tests.accounts import mails
from tests.accounts.attempts import SECRETS, sign_up
from tests.smtp_servers import Hold, ScriptedServer, Silence

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from uuid import UUID

    from regsvc.accounts.admin.mail_search import OutboxMail
    from regsvc.mail.transport import Transport
    from regsvc.postgres.pool import Pool


@asynccontextmanager
async def run_sending(
    pool: Pool,
    database: str,
    smtp: ScriptedServer | Callable[[], Transport],
    *,
    sessions: int = 1,
    spaced: bool = False,
) -> AsyncIterator[Supervisor]:
    """Run a courier, of one session unless said otherwise, and a mailer, as long as the block lasts."""
    stopping = trio.Event()
    sender = Address(addr_spec="no-reply@example.org")
    courier = Courier(
        pool,
        partial(open_transport, smtp.url, connections=sessions) if isinstance(smtp, ScriptedServer) else smtp,
        LetterWriter(
            SECRETS, Renderer(sender=sender, brand="regsvc"), sender.addr_spec, "https://example.org"
        ),
        sessions=sessions,
        spaced=spaced,
        stopping=stopping,
    )
    claiming = partial(run_mailer, courier=courier, conninfo=database, overdue=AT_ONCE, stopping=stopping)
    hurried = Backoff(initial=0.01, cap=0.04)
    supervisor = Supervisor(
        [Child("courier", courier.run, hurried), Child("mailer", claiming, hurried)], stopping=stopping
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        try:
            yield supervisor
        finally:
            stopping.set()


async def wait_state(pool: Pool, mail_id: UUID, state: str) -> OutboxMail:
    """Wait until a mail is in a state."""
    with trio.fail_after(20):
        while (mail := await mails.get(pool, mail_id)).state != state:  # noqa: ASYNC110 - it is in the database
            await trio.sleep(0.02)
    return mail


async def test_a_mail_has_one_line_at_info(pool: Pool, database: str) -> None:
    with structlog.testing.capture_logs() as lines:
        async with ScriptedServer({}).running() as smtp, run_sending(pool, database, smtp):
            mail_id = (await sign_up(pool, "ann@example.com")).mail_id
            await wait_state(pool, mail_id, "sent")
            with trio.fail_after(5):
                while not any(line["event"] == "mail accepted" for line in lines):  # noqa: ASYNC110 - a list
                    await trio.sleep(0.01)
    about = [line for line in lines if line.get("mail") == str(mail_id) and line["log_level"] != "debug"]
    assert [line["event"] for line in about] == ["mail accepted"]


async def test_a_claim_that_emptied_the_list_is_not_followed_by_a_look_around(
    pool: Pool, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0

    async def look(*args: Any) -> float | None:
        nonlocal looks
        looks += 1
        return await seconds_until_due(*args)

    monkeypatch.setattr(mailer, "seconds_until_due", look)
    monkeypatch.setattr(mailer, "_SOON", 60)
    async with ScriptedServer({}).running() as smtp, run_sending(pool, database, smtp):
        for number in range(5):
            added = await sign_up(pool, f"person{number}@example.com")
            await wait_state(pool, added.mail_id, "sent")
    assert looks <= 1  # before the first


async def test_a_courier_that_is_restarted_finishes_what_it_sends_and_gives_back_what_it_holds(
    pool: Pool, database: str
) -> None:
    answer = trio.Event()
    async with (
        ScriptedServer({"DOT": [Hold(answer)]}).running() as smtp,
        run_sending(pool, database, smtp) as supervisor,
    ):
        first = await sign_up(pool, "first@example.com")
        await smtp.wait(lambda: "DOT" in smtp.steps)
        second = await sign_up(pool, "second@example.com")
        await wait_state(pool, second.mail_id, "sending")
        supervisor.restart("courier")
        await wait_state(pool, second.mail_id, "queued")
        answer.set()
        for mail_id in (first.mail_id, second.mail_id):
            assert (await wait_state(pool, mail_id, "sent")).attempts == 1
    assert [mail.recipient for mail in smtp.mails] == ["first@example.com", "second@example.com"]


async def test_a_mail_server_that_says_nothing_does_not_hold_up_the_end(pool: Pool, database: str) -> None:
    async with pool.connection() as conn:
        await breaker.note_outcomes(conn, [Evidence(Delayed("timeout", "greeting"))] * OPENS_AT)
        await conn.execute("UPDATE mail_breaker SET probe_at = now()")
    async with ScriptedServer({"greeting": Silence()}).running() as smtp:
        with trio.fail_after(10):
            async with run_sending(pool, database, smtp):
                await smtp.wait(lambda: "greeting" in smtp.steps)


async def test_a_lease_runs_out_while_the_machine_is_suspended(
    pool: Pool, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database's clock goes on then: another process may have the mail by now."""
    clock_gettime, asleep = time.clock_gettime, [0.0]
    monkeypatch.setattr(time, "clock_gettime", lambda clock: clock_gettime(clock) + asleep[0])
    answer = trio.Event()
    async with (
        ScriptedServer({"DATA": [Hold(answer)]}).running() as smtp,
        run_sending(pool, database, smtp),
    ):
        await sign_up(pool)
        await smtp.wait(lambda: "DATA" in smtp.steps)
        asleep[0] = 60.0
        answer.set()
        await smtp.wait(lambda: smtp.open_connections == 0)
        assert smtp.mails == []
