from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from regsvc.config.mail_url import SmtpServer, parse_mail_url
from regsvc.mail.envelope import Envelope
from regsvc.mail.outcome import Aborted, Accepted, Bounced, Delayed, Outcome, Reason, Refused, Stage
from regsvc.mail.smtp.transport import Deadlines, SmtpTransport
from tests.mail.conftest import MAIL
from tests.smtp_servers import PATIENCE, Drip, HangUp, Hold, Reaction, Say, ScriptedServer, Silence

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SLOW = ("8BITMIME", "SIZE")
"""What a server without pipelining offers."""
SHORT = Deadlines(connect=0.3, command=0.3, data=0.3, after_dot=0.3)


@asynccontextmanager
async def transport_to(server: ScriptedServer, **settings: Any) -> AsyncIterator[SmtpTransport]:
    place = parse_mail_url(server.url)
    assert isinstance(place, SmtpServer)
    transport = SmtpTransport(place, **settings)
    with trio.fail_after(PATIENCE):
        yield transport
    with trio.CancelScope(shield=True, deadline=trio.current_time() + PATIENCE):
        await transport.aclose()


async def send_once(server: ScriptedServer, envelope: Envelope, **settings: Any) -> Outcome:
    async with server.running(), transport_to(server, **settings) as transport:
        return await transport.send(envelope)


@pytest.mark.parametrize("extensions", [("PIPELINING",), SLOW, ()])
async def test_a_mail_arrives_as_it_is(extensions: tuple[str, ...], envelope: Envelope) -> None:
    """With and without pipelining the server has the same octets, dots and all."""
    mail = replace(envelope, data=MAIL + b".\r\n..\r\n.dot\r\n" + b"y" * 998 + b"\r\n" + b"z\r\n" * 10_000)
    server = ScriptedServer(extensions=extensions)
    assert await send_once(server, mail) == Accepted("250 2.0.0 ok queued")
    (received,) = server.mails
    assert (received.sender, received.recipient) == ("no-reply@example.org", "jane@example.net")
    assert received.data == mail.data


async def test_a_server_without_ehlo_is_greeted_the_old_way(envelope: Envelope) -> None:
    """EHLO answered by 502 is followed by HELO."""
    server = ScriptedServer({"EHLO": "502 5.5.1 no"}, extensions=())
    assert isinstance(await send_once(server, envelope), Accepted)
    assert server.said("HELO") == 1


@pytest.mark.parametrize(
    ("name", "said"), [(None, "EHLO [127.0.0.1]"), ("mx.example.org", "EHLO mx.example.org")]
)
async def test_we_say_who_we_are(name: str | None, said: str, envelope: Envelope) -> None:
    """EHLO has our name, or the address we connect from."""
    server = ScriptedServer()
    await send_once(server, envelope, client_name=name)
    assert server.commands[0] == said


STAGES: list[tuple[str, Stage]] = [
    ("greeting", "greeting"),
    ("EHLO", "ehlo"),
    ("MAIL", "mail"),
    ("RCPT", "rcpt"),
    ("DATA", "data"),
    ("DOT", "dot"),
]
FAULTS: list[tuple[Reaction, Reason]] = [
    (HangUp(), "disconnected"),
    (HangUp(reset=True), "disconnected"),
    (HangUp(b"250-and then"), "disconnected"),
    (Say(b"HTTP/1.1 400 Bad Request\r\n"), "protocol_error"),
    (Say(b"250-" + b"\xff" * 10_000 + b"\r\n"), "protocol_error"),
    (Say(b"250-more\r\n" * 1000), "protocol_error"),
]


@pytest.mark.parametrize("extensions", [("PIPELINING",), SLOW])
@pytest.mark.parametrize(("step", "stage"), STAGES)
@pytest.mark.parametrize("broken", FAULTS)
async def test_a_broken_server_only_delays(
    step: str,
    stage: Stage,
    broken: tuple[Reaction, Reason],
    extensions: tuple[str, ...],
    envelope: Envelope,
) -> None:
    """A cut or garbage is told by its stage, and told apart after the dot; nothing is raised or kept."""
    fault, reason = broken
    server = ScriptedServer({step: fault}, extensions=extensions)
    async with server.running(), transport_to(server) as transport:
        outcome = await transport.send(envelope)
        assert isinstance(outcome, Delayed)
        assert (outcome.reason, outcome.stage) == (reason, stage)
        assert outcome.after_dot == (stage == "dot")
        assert transport.statistics().idle == 0
        await server.wait(lambda: server.open_connections == 0)


@pytest.mark.parametrize("fault", [Silence(), Drip(b"250-slow\r\n", 0.05)])
@pytest.mark.parametrize(("step", "stage"), STAGES)
async def test_a_slow_server_is_left_in_time(
    step: str, stage: Stage, fault: Reaction, envelope: Envelope
) -> None:
    """Silence, and one byte at a time, run into the deadline of their stage."""
    server = ScriptedServer({step: fault})
    outcome = await send_once(server, envelope, deadlines=SHORT)
    assert outcome == Delayed("timeout", stage, after_dot=stage == "dot")


async def test_a_server_that_does_not_read_is_left_in_time(envelope: Envelope) -> None:
    """Content that nobody takes in runs into the deadline of DATA."""
    server = ScriptedServer({"content": Hold(trio.Event())})
    big = replace(envelope, data=b"x" * 98 + b"\r\n" + b"yyyyyyyy\r\n" * 1_000_000)
    assert await send_once(server, big, deadlines=SHORT) == Delayed("timeout", "data")


async def test_a_cut_within_the_content_is_before_the_dot(envelope: Envelope) -> None:
    """The server cannot have the mail, so trying again cannot double it."""
    server = ScriptedServer({"content": HangUp(reset=True)}, extensions=("SIZE 0",))
    big = replace(envelope, data=b"yyyyyyyy\r\n" * 1_000_000)
    outcome = await send_once(server, big)
    assert isinstance(outcome, Delayed)
    assert (outcome.reason, outcome.stage, outcome.after_dot) == ("disconnected", "data", False)


PIECES = st.sampled_from(
    [b"250 ok\r\n", b"250-", b"354 go\r\n", b"421 bye\r\n", b"550 5.1.1 no\r\n", b"\r\n", b"\0"]
)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([step for step, _ in STAGES]),
    st.lists(PIECES | st.binary(max_size=20), max_size=8).map(b"".join),
    st.sampled_from([("PIPELINING",), SLOW]),
)
def test_no_server_makes_sending_raise(step: str, octets: bytes, extensions: tuple[str, ...]) -> None:
    """Whatever is said at any stage, there is an outcome, and it claims acceptance only behind a dot."""
    server = ScriptedServer({step: HangUp(octets)}, extensions=extensions)
    outcome = trio.run(send_once, server, Envelope("no-reply@example.org", "jane@example.net", MAIL))
    if isinstance(outcome, Accepted):
        assert (step, octets[:3]) == ("DOT", b"250")
    else:
        assert isinstance(outcome, Delayed | Bounced | Refused)
        if isinstance(outcome, Delayed) and outcome.after_dot:  # a server that said 354 may have had the dot
            assert step == "DOT" or (step, octets[:3]) == ("DATA", b"354")


async def test_nobody_listening_is_a_delay(envelope: Envelope) -> None:
    """A refused connection says so."""
    server = ScriptedServer()
    async with server.running():
        pass
    async with transport_to(server) as transport:
        outcome = await transport.send(envelope)
    assert isinstance(outcome, Delayed)
    assert (outcome.reason, outcome.stage) == ("connect_failed", "connect")


async def test_a_name_that_does_not_exist_is_a_delay(envelope: Envelope) -> None:
    """`.invalid` never resolves (RFC 6761)."""
    transport = SmtpTransport(SmtpServer(host="mail.invalid", port=25, security="none"))
    outcome = await transport.send(envelope)
    assert isinstance(outcome, Delayed)
    assert outcome.reason in {"name_not_resolved", "timeout"}
    assert outcome.stage == "connect"


@pytest.mark.parametrize("extensions", [("PIPELINING",), SLOW])
@pytest.mark.parametrize(
    ("script", "outcome"),
    [
        ({"MAIL": "550 5.1.0 not you"}, Refused("sender_refused", "mail", "550 5.1.0 not you")),
        ({"MAIL": "451 later"}, Delayed("temporary_failure", "mail", "451 later")),
        ({"RCPT": "550 5.1.1 who?"}, Bounced("recipient_refused", "rcpt", "550 5.1.1 who?")),
        ({"RCPT": "450 4.2.0 later"}, Delayed("mailbox_busy", "rcpt", "450 4.2.0 later")),
        ({"DATA": "451 4.3.0 later"}, Delayed("temporary_failure", "data", "451 4.3.0 later")),
        ({"DATA": "250 what"}, Delayed("protocol_error", "data", "250 what")),
        ({"DOT": "554 5.6.0 no"}, Bounced("message_refused", "dot", "554 5.6.0 no")),
        ({"DOT": "451 4.7.1 later"}, Delayed("temporary_failure", "dot", "451 4.7.1 later")),
        ({"DOT": "421 4.3.2 bye"}, Delayed("service_unavailable", "dot", "421 4.3.2 bye")),
        (
            {"MAIL": "421 bye", "RCPT": HangUp(), "DATA": HangUp()},
            Delayed("service_unavailable", "mail", "421 bye"),
        ),
        (
            {"MAIL": "530 5.7.0 log in", "RCPT": HangUp(), "DATA": HangUp()},
            Refused("auth_required", "mail", "530 5.7.0 log in"),
        ),
        (
            {"greeting": "554 5.7.1 not from there"},
            Refused("session_refused", "greeting", "554 5.7.1 not from there"),
        ),
    ],
)
async def test_a_bad_reply_decides(
    script: dict[str, Reaction], outcome: Outcome, extensions: tuple[str, ...], envelope: Envelope
) -> None:
    """The first bad reply is the outcome, pipelined or not, even if the server hangs up behind it."""
    server = ScriptedServer(script, extensions=extensions)
    assert await send_once(server, envelope) == outcome
    assert server.mails == []


@pytest.mark.parametrize("extensions", [("PIPELINING",), SLOW])
async def test_a_session_outlives_a_bounce(extensions: tuple[str, ...], envelope: Envelope) -> None:
    """After one bad recipient the same session is reset and takes the next mail."""
    server = ScriptedServer({"RCPT": ["550 5.1.1 who?"]}, extensions=extensions)
    async with server.running(), transport_to(server) as transport:
        assert isinstance(await transport.send(envelope), Bounced)
        assert isinstance(await transport.send(envelope), Accepted)
    assert server.connections == 1
    assert server.said("RSET") == 1


@pytest.mark.parametrize("answer", ["554 5.5.1 no valid recipients", "250 2.0.0 if you say so"])
async def test_data_that_was_let_in_without_a_recipient_costs_no_session(
    answer: str, envelope: Envelope
) -> None:
    """354 behind a refused RCPT is ended by a lone dot (RFC 2920, 3.1), and the session takes the next mail."""
    script = {"RCPT": ["550 5.1.1 who?"], "DATA": ["354 go all the same"], "DOT": [answer]}
    server = ScriptedServer(script)
    async with server.running(), transport_to(server) as transport:
        assert isinstance(await transport.send(envelope), Bounced)
        assert isinstance(await transport.send(envelope), Accepted)
    assert server.connections == 1
    assert len(server.mails) == 1


async def test_a_refusal_in_the_middle_of_the_content_is_heard(envelope: Envelope) -> None:
    """A server that says why and hangs up while we still write is believed."""
    server = ScriptedServer({"content": HangUp(b"552 5.3.4 too much\r\n", reset=False)})
    big = replace(envelope, data=b"yyyyyyyy\r\n" * 1_000_000)
    outcome = await send_once(server, big, deadlines=Deadlines(data=5))
    assert not isinstance(outcome, Accepted | Aborted)
    assert (outcome.stage, outcome.reply) == ("data", "552 5.3.4 too much")


async def test_a_refusal_right_behind_the_go_ahead_is_heard(envelope: Envelope) -> None:
    """It arrives together with the 354, before anything of the mail was written."""
    server = ScriptedServer({"DATA": Say(b"354 go\r\n552 5.3.4 too much\r\n")})
    outcome = await send_once(server, replace(envelope, data=b"yyyyyyyy\r\n" * 1000))
    assert not isinstance(outcome, Accepted | Aborted)
    assert (outcome.stage, outcome.reply) == ("data", "552 5.3.4 too much")
    assert server.mails == []


async def test_a_second_reply_to_one_mail_does_not_answer_the_next(envelope: Envelope) -> None:
    """A server that is out of step is left."""
    server = ScriptedServer({"DOT": [Say(b"250 ok\r\n250 ok\r\n")]})
    async with server.running(), transport_to(server) as transport:
        assert isinstance(await transport.send(envelope), Accepted)
        assert transport.statistics().idle == 0


@pytest.mark.parametrize("extensions", [("PIPELINING",), SLOW])
async def test_an_answer_ahead_of_its_question_is_not_believed(
    extensions: tuple[str, ...], envelope: Envelope
) -> None:
    """A "250" that was there before the dot says nothing about the mail."""
    server = ScriptedServer({"DATA": Say(b"354 go\r\n250 taken, whatever it is\r\n")}, extensions=extensions)
    outcome = await send_once(server, envelope)
    assert isinstance(outcome, Delayed)
    assert (outcome.reason, outcome.after_dot) == ("protocol_error", False)
    assert server.mails == []


async def test_before_the_dot_the_mail_can_be_withheld(envelope: Envelope) -> None:
    """`before_dot` is asked once everything else is said; False drops the connection, and the server has no mail."""
    server = ScriptedServer()
    seen: list[str] = []

    def before_dot() -> bool:
        seen.extend(server.commands)
        return False

    async with server.running(), transport_to(server) as transport:
        assert await transport.send(envelope, before_dot=before_dot) == Aborted()
        await server.wait(lambda: server.open_connections == 0)
        assert seen[-1] == "DATA"
        assert server.mails == []
        assert await transport.send(envelope, before_dot=lambda: True) == Accepted("250 2.0.0 ok queued")


async def test_sessions_are_kept(envelope: Envelope) -> None:
    """Mails one after the other share a session; closing takes leave."""
    server = ScriptedServer()
    async with server.running():
        async with transport_to(server) as transport:
            for _ in range(5):
                assert isinstance(await transport.send(envelope), Accepted)
        await server.wait(lambda: server.said("QUIT") == 1)
    assert server.connections == 1
    assert server.said("EHLO") == 1


async def test_a_session_ends_after_its_share_of_mails(envelope: Envelope) -> None:
    """Servers count mails too; we take leave first."""
    server = ScriptedServer()
    async with server.running(), transport_to(server, mails_per_session=2) as transport:
        for _ in range(4):
            assert isinstance(await transport.send(envelope), Accepted)
    assert server.connections == 2
    assert server.said("QUIT") == 2


@pytest.mark.parametrize(
    "farewell",
    [HangUp(), HangUp(reset=True), HangUp(b"421 4.4.2 idle for too long\r\n")],
)
async def test_a_session_that_the_server_closed_is_quietly_replaced(
    farewell: Reaction, envelope: Envelope
) -> None:
    """A kept session that ended before the server said anything to the mail costs nothing but a connection."""
    server = ScriptedServer({"MAIL": ["250 ok", farewell]})
    async with server.running(), transport_to(server) as transport:
        assert isinstance(await transport.send(envelope), Accepted)
        assert isinstance(await transport.send(envelope), Accepted)
    assert server.connections == 2
    assert len(server.mails) == 2


async def test_a_session_is_replaced_once(envelope: Envelope) -> None:
    """A server that hangs up on the new session too is a delay."""
    server = ScriptedServer({"MAIL": ["250 ok", HangUp(), HangUp()]})
    async with server.running(), transport_to(server) as transport:
        assert isinstance(await transport.send(envelope), Accepted)
        assert await transport.send(envelope) == Delayed("disconnected", "mail")
    assert server.connections == 2


async def test_a_kept_session_that_breaks_after_the_dot_is_not_tried_again(envelope: Envelope) -> None:
    """Only its caller may decide to risk a second copy."""
    server = ScriptedServer({"DOT": ["250 ok", HangUp()]})
    async with server.running(), transport_to(server) as transport:
        assert isinstance(await transport.send(envelope), Accepted)
        assert await transport.send(envelope) == Delayed("disconnected", "dot", after_dot=True)
    assert server.connections == 1


async def test_a_server_that_dies_behind_the_dot_may_have_the_mail(envelope: Envelope) -> None:
    """The outcome says that a second try may double it; the second copy is known by its Message-ID."""
    server = ScriptedServer({"DOT": [HangUp(kept=True)]})
    async with server.running(), transport_to(server) as transport:
        assert await transport.send(envelope) == Delayed("disconnected", "dot", after_dot=True)
        assert isinstance(await transport.send(envelope), Accepted)
    assert [mail.data for mail in server.mails] == [envelope.data, envelope.data]


async def test_idle_sessions_are_closed(envelope: Envelope, nursery: trio.Nursery) -> None:
    """`tend` takes leave of what nobody used for a while."""
    server = ScriptedServer()
    async with server.running(), transport_to(server, idle_seconds=0.02) as transport:
        await transport.send(envelope)
        nursery.start_soon(transport.tend)
        await server.wait(lambda: server.said("QUIT") == 1)
        await server.wait(lambda: server.open_connections == 0)
        assert transport.statistics().idle == 0
        nursery.cancel_scope.cancel()


async def test_one_slow_answer_holds_up_no_other_mail(envelope: Envelope, nursery: trio.Nursery) -> None:
    """While one session waits, the others go on; the session used last is used next."""
    server = ScriptedServer({"DOT": [Hold(answer := trio.Event())]})
    async with server.running(), transport_to(server, connections=2) as transport:
        nursery.start_soon(transport.send, envelope)
        await server.wait(lambda: server.said("DATA") == 1)
        for _ in range(5):
            assert isinstance(await transport.send(envelope), Accepted)
        assert transport.statistics().busy == 1
        answer.set()
        await server.wait_mails(6)
    assert server.connections == 2


async def test_no_more_sessions_than_allowed(envelope: Envelope, nursery: trio.Nursery) -> None:
    """Further senders wait in line and are served."""
    server = ScriptedServer()
    async with server.running(), transport_to(server, connections=3) as transport:
        async with trio.open_nursery() as senders:
            for _ in range(30):
                senders.start_soon(transport.send, envelope)
        assert len(server.mails) == 30
    assert server.connections <= 3


@pytest.mark.parametrize("step", ["greeting", "MAIL", "DATA", "DOT"])
async def test_a_cancelled_mail_leaves_nothing_half_open(step: str, envelope: Envelope) -> None:
    """The session is dropped, its place is free again, and the next mail goes through."""
    server = ScriptedServer({step: [Silence()]})
    async with server.running(), transport_to(server, connections=1) as transport:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(transport.send, envelope)
            await server.wait(lambda: step in server.steps)
            nursery.cancel_scope.cancel()
        await server.wait(lambda: server.open_connections == 0)
        assert isinstance(await transport.send(envelope), Accepted)
    assert len(server.mails) == 1


async def test_a_check_logs_in_and_leaves() -> None:
    """`check` shows the greeting, or what is in the way."""
    server = ScriptedServer({"greeting": ["220 hello", "421 full"]})
    async with server.running(), transport_to(server) as transport:
        assert await transport.check() == Accepted("220 hello")
        assert await transport.check() == Delayed("service_unavailable", "greeting", "421 full")
    assert server.commands == ["EHLO [127.0.0.1]", "QUIT"]


async def test_a_closed_transport_takes_no_mail(envelope: Envelope) -> None:
    """Sending after closing is a bug and says so; a mail on its way is finished first."""
    server = ScriptedServer({"DOT": [Hold(answer := trio.Event())]})
    async with server.running(), transport_to(server) as transport, trio.open_nursery() as nursery:
        nursery.start_soon(transport.send, envelope)
        await server.wait(lambda: server.said("DATA") == 1)
        await transport.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await transport.send(envelope)
        answer.set()
        await server.wait_mails(1)
        await server.wait(lambda: server.said("QUIT") == 1)


@pytest.mark.parametrize(
    ("said", "provider_id"),
    [
        ("Ok 0102019ad3c1b2f4-2c9e5f0a-000000", "0102019ad3c1b2f4-2c9e5f0a-000000"),
        ("2.0.0 Ok: queued as 0a129aee-e1cd-480d-b08d-4f48548ff48d", "0a129aee-e1cd-480d-b08d-4f48548ff48d"),
        ("Ok: queued as ZCq2nbEmT4mOvBN2bQ8R7g", "ZCq2nbEmT4mOvBN2bQ8R7g"),
        ("2.0.0 Ok: queued as 4cJ1Xy2Qz3z9s7", None),
        ("Great success", None),
    ],
    ids=["ses", "postmark", "sendgrid", "postfix", "mailgun"],
)
async def test_the_reply_to_the_dot_holds_the_id_of_some_providers(
    said: str, provider_id: str | None, envelope: Envelope
) -> None:
    outcome = await send_once(ScriptedServer({"DOT": f"250 {said}"}), envelope)
    assert isinstance(outcome, Accepted)
    assert outcome.provider_id == provider_id


@pytest.mark.parametrize("offered", [True, False], ids=["offered", "not-offered"])
async def test_a_server_that_reports_is_told_what_to_report(envelope: Envelope, *, offered: bool) -> None:
    """RFC 3461, 4: headers alone come back, with our id, on failure and delay, never on success."""
    mail = replace(envelope, envid="0c2e4f0e-8f0d-4d76-a8f3-8d9f3b9d9a10")
    server = ScriptedServer(extensions=("PIPELINING", *(("DSN",) if offered else ())))
    assert isinstance(await send_once(server, mail), Accepted)
    begin, recipient = (line for line in server.commands if line.startswith(("MAIL", "RCPT")))
    assert begin == "MAIL FROM:<no-reply@example.org>" + (
        " RET=HDRS ENVID=0c2e4f0e-8f0d-4d76-a8f3-8d9f3b9d9a10" if offered else ""
    )
    assert recipient == "RCPT TO:<jane@example.net>" + (" NOTIFY=FAILURE,DELAY" if offered else "")
