"""What is said before the first mail: who we are, how we log in, and what a wrong URL looks like."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
import trio

from regsvc.config.mail_url import SmtpServer
from regsvc.mail.outcome import Accepted, Delayed, Outcome, Refused
from regsvc.mail.smtp.client_name import choose_client_name
from regsvc.mail.smtp.connection import Deadlines
from regsvc.mail.smtp.transport import SmtpTransport
from regsvc.mail.transport import open_transport
from tests.smtp_servers import PATIENCE, HangUp, Say, ScriptedServer, Silence

if TYPE_CHECKING:
    from regsvc.mail.envelope import Envelope
    from tests.mail.conftest import Certificates

USERS = {"jane@example.org": "päss:word/"}
LITERAL = "EHLO [127.0.0.1]"


async def send(server: ScriptedServer, envelope: Envelope, url: str = "", name: str | None = None) -> Outcome:
    credentials = "jane%40example.org:p%C3%A4ss%3Aword%2F@" if server.users else ""
    with trio.fail_after(PATIENCE):
        async with server.running():
            address = f"smtp://{credentials}127.0.0.1:{server.port}{url}"
            transport = open_transport(address, client_name=name)
            outcome = await transport.send(envelope)
            await transport.aclose()
            return outcome


def introductions(server: ScriptedServer) -> list[str]:
    return [command for command in server.commands if command.startswith("EHLO")]


async def test_the_url_says_what_ehlo_says(envelope: Envelope) -> None:
    server = ScriptedServer()
    assert isinstance(await send(server, envelope, "?ehlo=relay.example.org", "other.example"), Accepted)
    assert introductions(server) == ["EHLO relay.example.org"]


@pytest.mark.parametrize("refusal", ["550 5.7.1 not you", "504 5.5.2 helo rejected", "501 5.5.4 what?"])
async def test_a_name_that_is_refused_gives_way_to_our_address_once(refusal: str, envelope: Envelope) -> None:
    server = ScriptedServer({"EHLO": [refusal]})
    assert isinstance(await send(server, envelope, name="mail.example.org"), Accepted)
    assert introductions(server) == ["EHLO mail.example.org", LITERAL]
    server = ScriptedServer({"EHLO": refusal})
    outcome = await send(server, envelope, name="mail.example.org")
    assert isinstance(outcome, Refused)
    assert (outcome.reason, outcome.stage) == ("session_refused", "ehlo")
    assert introductions(server) == ["EHLO mail.example.org", LITERAL]


@pytest.mark.parametrize(
    ("host", "sender", "chosen"),
    [
        ("mx1.example.org", "example.net", "mx1.example.org"),
        ("4f0c2a", "example.net", "example.net"),
        ("laptop.local", "example.net", "example.net"),
        ("web.internal", "example.net", "example.net"),
        ("10.0.0.7", "example.net", "example.net"),
        ("4f0c2a", "localhost", None),
    ],
)
def test_by_default_we_are_this_machine_or_the_domain_of_the_sender(
    host: str, sender: str, chosen: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    assert choose_client_name(sender) == chosen


@pytest.mark.parametrize("separator", [" ", "="])
@pytest.mark.parametrize("mechanisms", ["PLAIN", "LOGIN", "CRAM-MD5", "XOAUTH2 CRAM-MD5 NTLM", "login plain"])
async def test_every_mechanism_that_we_speak_logs_in(
    mechanisms: str, separator: str, envelope: Envelope
) -> None:
    server = ScriptedServer(users=USERS, mechanisms=mechanisms, auth_separator=separator)
    assert isinstance(await send(server, envelope), Accepted)


async def test_a_mechanism_that_is_offered_and_unknown_gives_way_to_the_next(envelope: Envelope) -> None:
    unknown = "504 5.7.4 Unrecognized authentication type"
    server = ScriptedServer({"AUTH": [unknown]}, users=USERS)
    assert isinstance(await send(server, envelope), Accepted)
    assert [line.split()[1] for line in server.commands if line.startswith("AUTH")] == ["PLAIN", "LOGIN"]
    server = ScriptedServer({"AUTH": unknown}, users=USERS)
    outcome = await send(server, envelope)
    assert isinstance(outcome, Refused)
    assert outcome.reason == "auth_not_offered"
    assert "the server offers PLAIN LOGIN" in outcome.reply
    assert unknown in outcome.reply


async def test_a_wrong_password_is_tried_by_one_mechanism_alone(envelope: Envelope) -> None:
    server = ScriptedServer(users={"jane@example.org": "another"}, mechanisms="PLAIN LOGIN CRAM-MD5")
    outcome = await send(server, envelope)
    assert isinstance(outcome, Refused)
    assert outcome.reason == "auth_failed"
    assert server.said("AUTH") == 1


@pytest.mark.parametrize(("mechanisms", "offers"), [("XOAUTH2 NTLM", "XOAUTH2 NTLM"), ("", "none")])
async def test_what_the_server_offers_is_said_where_we_speak_none_of_it(
    mechanisms: str, offers: str, envelope: Envelope
) -> None:
    outcome = await send(ScriptedServer(users=USERS, mechanisms=mechanisms), envelope)
    assert isinstance(outcome, Refused)
    assert f"the server offers {offers}; regsvc supports PLAIN LOGIN CRAM-MD5" in outcome.reply


async def test_reaching_a_server_takes_no_longer_than_is_set_tls_and_greeting_included(
    certificates: Certificates, envelope: Envelope
) -> None:
    """The greeting has what is left of the time, and none of its own."""
    server = ScriptedServer({"greeting": Silence()})
    with trio.fail_after(PATIENCE):
        async with server.running():
            place = SmtpServer(host="127.0.0.1", port=server.port, security="none")
            deadlines = Deadlines(connect=0.3, command=3600)
            assert await SmtpTransport(place, deadlines=deadlines).send(envelope) == Delayed(
                "timeout", "greeting"
            )


async def test_a_url_without_tls_for_a_port_with_tls_is_named(
    certificates: Certificates, envelope: Envelope
) -> None:
    alert = Say(b"\x15\x03\x01\x00\x02\x02\x46\r\n")
    outcome = await send(ScriptedServer({"greeting": alert}), envelope)
    assert isinstance(outcome, Delayed)
    assert "smtps://" in outcome.reply


async def test_a_url_with_tls_for_a_port_without_is_named(
    certificates: Certificates, envelope: Envelope
) -> None:
    server = ScriptedServer({"greeting": HangUp(b"220 hello\r\n")})
    with trio.fail_after(PATIENCE):
        async with server.running():
            place = SmtpServer(host="127.0.0.1", port=server.port, security="tls")
            outcome = await SmtpTransport(place, tls=certificates.client).send(envelope)
    assert isinstance(outcome, Delayed)
    assert "smtp+starttls://" in outcome.reply


@pytest.mark.parametrize(
    ("server", "reason"),
    [
        (ScriptedServer({"MAIL": "530 5.7.0 log in first"}), "auth_required"),
        (ScriptedServer({"MAIL": "550 5.7.1 not from there"}), "policy_refused"),
        (ScriptedServer(extensions=("SIZE 2048",)), "message_too_large"),
        (ScriptedServer(), None),
    ],
    ids=["log-in needed", "sender refused", "size", "good"],
)
async def test_a_check_finds_what_keeps_mails_from_being_taken_and_sends_none(
    server: ScriptedServer, reason: str | None
) -> None:
    with trio.fail_after(PATIENCE):
        async with server.running():
            transport = open_transport(server.url)
            outcome = await transport.check("no-reply@example.org")
            await transport.aclose()
    assert (None if isinstance(outcome, Accepted) else getattr(outcome, "reason", "")) == reason
    assert server.said("RCPT") == server.said("DATA") == 0
    assert server.mails == []
