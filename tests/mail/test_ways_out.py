"""A courier with several routes: no mail is lost when one fails, and none doubled but those whose fate is unknown."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest
import trio

from regsvc.mail.queue import families
from regsvc.mail.queue.route_breakers import load_routes
from regsvc.mail.routes.router import Router
from regsvc.mail.smtp.connection import Deadlines
from regsvc.mail.transport import open_transport
from regsvc.metrics import MAILS
from tests.accounts import mails
from tests.accounts.attempts import sign_up
from tests.mail.providers import ProviderServer
from tests.mail.test_courier import run_sending, wait_state
from tests.polling import wait_until
from tests.smtp_servers import PATIENCE, HangUp, Reaction, Say, ScriptedServer, Silence

if TYPE_CHECKING:
    from regsvc.mail.transport import Transport
    from regsvc.postgres.pool import Pool


def route_over(
    *servers: ScriptedServer | ProviderServer, sessions: int = 8, after_dot: float = 5.0
) -> Transport:
    """Return the transport over running servers, as the routes `a`, `b` …, with as many sessions for each."""
    return Router(
        {
            name: open_transport(server.url, connections=sessions, deadlines=Deadlines(after_dot=after_dot))
            for name, server in zip("abc", servers, strict=False)
        }
    )


async def _value(pool: Pool, query: str) -> object:
    async with pool.connection() as conn:
        row = await (await conn.execute(query)).fetchone()
    assert row is not None
    return row[0]


async def _wait(pool: Pool, query: str) -> None:
    """Wait until a query that no event tells of returns true."""
    with trio.fail_after(2 * PATIENCE):
        while not await _value(pool, query):  # noqa: ASYNC110 - it is in the database
            await trio.sleep(0.05)


async def test_an_acceptance_keeps_its_route_and_the_id_of_the_provider(pool: Pool, database: str) -> None:
    async with (
        ProviderServer("postmark").running() as api,
        run_sending(pool, database, lambda: route_over(api)),
    ):
        attempt = await sign_up(pool)
        await wait_state(pool, attempt.mail_id, "sent")
    assert await _value(pool, "SELECT (route, provider_id)::text FROM mails") == "(a,kept-1)"


async def test_a_mail_whose_fate_is_unknown_waits_for_its_route_and_then_takes_the_next(
    pool: Pool, database: str
) -> None:
    """Ten minutes long it is tried there alone, with the same octets; then it is counted as ambiguous."""
    before = MAILS.labels("ambiguous")._value.get()
    lost = [HangUp(kept=True), HangUp(kept=True)]
    first, second = ScriptedServer({"DOT": lost}), ScriptedServer()
    async with (
        first.running(),
        second.running(),
        run_sending(pool, database, lambda: route_over(first, second)),
    ):
        attempt = await sign_up(pool)
        await first.wait_mails(1)
        await wait_state(pool, attempt.mail_id, "delayed")
        assert await _value(pool, "SELECT route FROM mails") == "a"
        await mails.execute(pool, "UPDATE mails SET due_at = now()")
        await first.wait_mails(2)
        await wait_state(pool, attempt.mail_id, "delayed")
        assert second.connections == 0
        assert first.mails[0].data == first.mails[1].data
        await mails.execute(
            pool, "UPDATE mails SET due_at = now(), ambiguous_at = ambiguous_at - interval '10 minutes'"
        )
        await wait_state(pool, attempt.mail_id, "sent")
    assert [mail.data for mail in second.mails] == [first.mails[0].data]
    assert await _value(pool, "SELECT route FROM mails") == "b"
    assert MAILS.labels("ambiguous")._value.get() == before + 1
    assert await _value(pool, "SELECT string_agg(route, '' ORDER BY tried_at) FROM mail_attempts") == "aa"


async def test_a_route_that_dies_among_many_mails_costs_none(pool: Pool, database: str) -> None:
    """What was accepted twice had its dot sent and not answered."""
    people = [f"p{number}@d{number % 7}.example" for number in range(60)]
    # Two mails are taken and their answers lost, then the server accepts nothing any more.
    # The script has an end: what comes behind it is accepted as usual, by whatever session.
    dots: list[Reaction] = [HangUp(kept=True), HangUp(kept=False)]
    greetings: list[Reaction] = [*[Say(b"220 ready\r\n")] * 6, *["421 4.3.2 going down"] * 500]
    first = ScriptedServer({"DOT": dots, "greeting": greetings})
    second = ScriptedServer()
    async with (
        first.running(),
        second.running(),
        run_sending(pool, database, lambda: route_over(first, second), sessions=4),
    ):
        for person in people:
            await sign_up(pool, person)
        await _wait(pool, "SELECT count(*) >= 58 FROM mails WHERE state = 'sent'")
        await mails.execute(
            pool,
            "UPDATE mails SET due_at = now(), ambiguous_at = now() - interval '11 minutes' WHERE state <> 'sent'",
        )
        await _wait(pool, "SELECT count(*) = 60 FROM mails WHERE state = 'sent'")
    got = Counter(mail.recipient for mail in (*first.mails, *second.mails))
    assert sorted(got) == sorted(people)
    assert sum(count - 1 for count in got.values()) <= 2


async def test_mails_that_wait_for_a_silent_route_hold_up_no_others(pool: Pool, database: str) -> None:
    """All sessions wait for the answer to a dot; the next mails go by the next route meanwhile."""
    first = ScriptedServer(
        {"DOT": [Silence()] * 4, "greeting": [Say(b"220 ready\r\n")] * 4 + [Silence()] * 9}
    )
    second = ScriptedServer()
    async with (
        first.running(),
        second.running(),
        run_sending(pool, database, lambda: route_over(first, second, after_dot=60.0), sessions=4),
    ):
        stuck = [await sign_up(pool, f"p{number}@d{number % 2}.example") for number in range(4)]
        await first.wait(lambda: first.steps.count("DOT") == 4)
        others = [await sign_up(pool, f"q{number}@d{number % 2}.example") for number in range(6)]
        for attempt in others:
            await wait_state(pool, attempt.mail_id, "sent")
        for attempt in stuck:
            await wait_state(pool, attempt.mail_id, "sending")
    assert len(second.mails) == 6


async def test_a_lost_answer_of_a_provider_with_keys_doubles_nothing(pool: Pool, database: str) -> None:
    api = ProviderServer("resend", lost=True)
    async with api.running(), run_sending(pool, database, lambda: route_over(api), sessions=2):
        attempts = [await sign_up(pool, f"p{number}@example.org") for number in range(6)]
        await wait_until(lambda: len(api.mails) == 6, seconds=PATIENCE)
        api.lost = False
        for attempt in attempts:
            await wait_state(pool, attempt.mail_id, "delayed")
        await mails.execute(pool, "UPDATE mails SET due_at = now()")
        for attempt in attempts:
            await wait_state(pool, attempt.mail_id, "sent")
    assert len(api.mails) == 6
    assert len(api.requests) == 12


async def test_what_a_process_knows_of_a_route_the_others_hear(pool: Pool, database: str) -> None:
    first, second = ScriptedServer({"MAIL": "550 5.7.60 not as this sender"}), ScriptedServer()
    async with first.running(), second.running():
        async with run_sending(pool, database, lambda: route_over(first, second)):
            attempt = await sign_up(pool)
            await wait_state(pool, attempt.mail_id, "sent")
            await _wait(pool, "SELECT count(*) = 1 FROM mail_routes")
        known = await _routes(pool)
        assert known["a"] == (True, "sender_refused")
        assert await _value(pool, "SELECT open FROM mail_breaker") is False


async def _routes(pool: Pool) -> dict[str, tuple[bool, str | None]]:
    async with pool.connection() as conn:
        return {name: (state.open, state.reason) for name, state in (await load_routes(conn)).items()}


async def test_a_family_that_throttles_waits_alone(pool: Pool, database: str) -> None:
    """Its next mail is not offered, others are, and one that tests it ends the holding."""
    server = ScriptedServer({"RCPT": ["451 4.7.28 Gmail has detected an unusual rate of mail"]})
    async with server.running(), run_sending(pool, database, server):
        throttled = await sign_up(pool, "one@gmail.com")
        await wait_state(pool, throttled.mail_id, "delayed")
        await mails.execute(pool, "UPDATE mails SET due_at = now() + interval '1 hour'")
        held = await sign_up(pool, "two@googlemail.com")
        other = await sign_up(pool, "three@example.org")
        await wait_state(pool, other.mail_id, "sent")
        assert (await wait_state(pool, held.mail_id, "delayed")).attempts == 0
        assert server.said("RCPT") == 2
        await mails.execute(pool, "UPDATE mail_families SET probe_at = now()")
        await mails.execute(pool, "UPDATE mails SET due_at = now() WHERE state = 'delayed' AND attempts = 0")
        await wait_state(pool, held.mail_id, "sent")
        assert await _value(pool, "SELECT count(*) FROM mail_families") == 0


async def test_a_family_is_tested_once_a_minute_by_all_processes(pool: Pool) -> None:
    async with pool.connection() as conn:
        await families.hold_families(conn, ["google", "example.org"])
        assert sorted(await families.load_held(conn)) == ["example.org", "google"]
        assert await families.take_tests(conn, ["google"]) == set()
        await conn.execute("UPDATE mail_families SET probe_at = now()")
        assert await families.take_tests(conn, ["google", "example.org"]) == {"google", "example.org"}
        assert await families.take_tests(conn, ["google"]) == set()


@pytest.mark.parametrize(
    ("domain", "exchanger", "family"),
    [
        ("GMAIL.com", None, "google"),
        ("hotmail.co.uk", None, "microsoft"),
        ("yahoo.co.jp", None, "yahoo"),
        ("me.com", None, "apple"),
        ("firm.example", "aspmx.l.google.com.", "google"),
        ("firm.example", "firm-example.mail.protection.outlook.com", "microsoft"),
        ("firm.example", "mx.example.net", "other"),
        ("notgmail.com", None, "other"),
    ],
)
def test_the_family_of_a_domain(domain: str, exchanger: str | None, family: str) -> None:
    assert families.find_family(domain, exchanger) == family
