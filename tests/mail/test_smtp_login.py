from __future__ import annotations

import logging
import ssl
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trustme

from regsvc.errors import ConfigurationError
from regsvc.mail.outcome import Accepted, Delayed, Outcome, Reason, Refused, Stage
from regsvc.mail.smtp.connection import Deadlines
from regsvc.mail.transport import open_transport
from tests.smtp_servers import PATIENCE, HangUp, Say, ScriptedServer, Silence

if TYPE_CHECKING:
    from pathlib import Path

    from regsvc.mail.envelope import Envelope
    from tests.mail.conftest import Certificates

USERS = {"jane@example.org": "päss:word/"}
CREDENTIALS = "jane%40example.org:p%C3%A4ss%3Aword%2F@"


async def send(
    server: ScriptedServer, scheme: str, envelope: Envelope, *, host: str = "127.0.0.1", **settings: Any
) -> Outcome:
    credentials = CREDENTIALS if server.users else ""
    with trio.fail_after(PATIENCE):
        async with server.running():
            transport = open_transport(f"{scheme}://{credentials}{host}:{server.port}", **settings)
            outcome = await transport.send(envelope)
            await transport.aclose()
            return outcome


@pytest.mark.parametrize("mechanisms", ["PLAIN LOGIN", "LOGIN", "CRAM-MD5 PLAIN"])
async def test_starttls_and_log_in(mechanisms: str, certificates: Certificates, envelope: Envelope) -> None:
    """What Gmail wants: encrypt, greet anew, log in, send."""
    server = ScriptedServer(tls=certificates.server, users=USERS, mechanisms=mechanisms)
    assert isinstance(await send(server, "smtp+starttls", envelope, tls=certificates.client), Accepted)
    assert [command.split()[0] for command in server.commands[:4]] == ["EHLO", "STARTTLS", "EHLO", "AUTH"]


async def test_implicit_tls(certificates: Certificates, envelope: Envelope) -> None:
    """`smtps` encrypts before the greeting."""
    server = ScriptedServer(tls=certificates.server, implicit_tls=True, users=USERS)
    assert isinstance(await send(server, "smtps", envelope, tls=certificates.client), Accepted)
    assert "STARTTLS" not in server.commands


@pytest.mark.parametrize("scheme", ["smtps", "smtp+starttls"])
async def test_an_unknown_authority_is_refused(
    scheme: str, certificates: Certificates, envelope: Envelope
) -> None:
    """Without the test's authority nothing trusts the server, and no password or mail is given to it."""
    server = ScriptedServer(tls=certificates.server, implicit_tls=scheme == "smtps", users=USERS)
    outcome = await send(server, scheme, envelope)
    assert isinstance(outcome, Refused)
    assert (outcome.reason, outcome.stage) == ("certificate_invalid", "tls")
    assert server.said("AUTH") == 0


async def test_a_certificate_for_another_name_is_refused(
    certificates: Certificates, envelope: Envelope
) -> None:
    """The certificate names 127.0.0.1, the URL localhost."""
    server = ScriptedServer(tls=certificates.server, implicit_tls=True)
    outcome = await send(server, "smtps", envelope, tls=certificates.client, host="localhost")
    assert isinstance(outcome, Refused)
    assert outcome.reason == "certificate_invalid"


async def test_verification_can_be_given_up(certificates: Certificates, envelope: Envelope) -> None:
    """`verify=False` takes any certificate."""
    server = ScriptedServer(tls=certificates.server, implicit_tls=True)
    assert isinstance(await send(server, "smtps", envelope, verify=False), Accepted)


async def test_starttls_is_required_when_asked_for(certificates: Certificates, envelope: Envelope) -> None:
    """A server, or somebody between, that does not offer it gets neither password nor mail."""
    server = ScriptedServer(users=USERS)
    outcome = await send(server, "smtp+starttls", envelope, tls=certificates.client)
    assert outcome == Refused("starttls_not_offered", "starttls")
    assert server.commands == ["EHLO [127.0.0.1]"]


async def test_nothing_said_in_clear_is_carried_over_starttls(
    certificates: Certificates, envelope: Envelope
) -> None:
    """Replies slipped in behind the one to STARTTLS end the session (CVE-2011-0411)."""
    injected = Say(b"220 go\r\n250-evil\r\n250 AUTH PLAIN\r\n235 welcome\r\n")
    server = ScriptedServer({"STARTTLS": injected}, tls=certificates.server)
    outcome = await send(server, "smtp+starttls", envelope, tls=certificates.client)
    assert outcome == Refused("starttls_injection", "starttls")


async def test_extensions_offered_in_clear_are_forgotten(
    certificates: Certificates, envelope: Envelope
) -> None:
    """AUTH that was offered before TLS alone is not used after it."""
    second = "250-test.example\r\n250 PIPELINING"
    server = ScriptedServer(
        {"EHLO": ["250-test.example\r\n250-STARTTLS\r\n250 AUTH PLAIN", second]},
        tls=certificates.server,
        users=USERS,
    )
    outcome = await send(server, "smtp+starttls", envelope, tls=certificates.client)
    assert isinstance(outcome, Refused)
    assert (outcome.reason, outcome.stage) == ("auth_not_offered", "auth")


@pytest.mark.parametrize(
    ("reaction", "reason", "stage"),
    [
        ("454 4.7.0 not now", "temporary_failure", "starttls"),
        (HangUp(), "disconnected", "starttls"),
        (HangUp(b"220 go\r\n"), "tls_failed", "tls"),
        (Say(b"220 go\r\nHTTP/1.1 400 Bad Request\r\n"), None, None),
    ],
)
async def test_a_broken_handshake(
    reaction: str | HangUp | Say,
    reason: Reason | None,
    stage: Stage | None,
    certificates: Certificates,
    envelope: Envelope,
) -> None:
    """Whatever goes wrong on the way to TLS has a name."""
    server = ScriptedServer({"STARTTLS": reaction}, tls=certificates.server)
    outcome = await send(server, "smtp+starttls", envelope, tls=certificates.client)
    if reason is None:
        assert outcome == Refused("starttls_injection", "starttls")
    else:
        assert isinstance(outcome, Delayed)
        assert (outcome.reason, outcome.stage) == (reason, stage)


async def test_a_handshake_has_a_deadline(certificates: Certificates, envelope: Envelope) -> None:
    """A server that speaks in clear on the encrypted port waits for us as we wait for it."""
    server = ScriptedServer({"greeting": Silence()})
    outcome = await send(server, "smtps", envelope, tls=certificates.client, deadlines=Deadlines(connect=0.3))
    assert outcome == Delayed("timeout", "tls")


async def test_clear_text_on_the_encrypted_port(certificates: Certificates, envelope: Envelope) -> None:
    """A server that greets in clear is no TLS server."""
    server = ScriptedServer({"greeting": HangUp(b"220 hello\r\n")})
    outcome = await send(server, "smtps", envelope, tls=certificates.client)
    assert isinstance(outcome, Delayed)
    assert (outcome.reason, outcome.stage) == ("tls_failed", "tls")


@pytest.mark.parametrize(
    ("script", "mechanisms", "expected"),
    [
        ({"AUTH": "535 5.7.8 no"}, "PLAIN", Refused("auth_failed", "auth", "535 5.7.8 no")),
        ({"AUTH": "454 4.7.0 later"}, "PLAIN", Delayed("auth_unavailable", "auth", "454 4.7.0 later")),
        ({"AUTH": "535 5.7.8 no"}, "LOGIN", Refused("auth_failed", "auth", "535 5.7.8 no")),
        ({"AUTH": "250 ok"}, "LOGIN", Delayed("protocol_error", "auth", "250 ok")),
        ({"AUTH": HangUp()}, "PLAIN", Delayed("disconnected", "auth")),
        (
            {},
            "NTLM XOAUTH2",
            Refused(
                "auth_not_offered",
                "auth",
                "the server offers NTLM XOAUTH2; regsvc supports PLAIN LOGIN CRAM-MD5",
            ),
        ),
    ],
)
async def test_a_log_in_that_fails(
    script: dict[str, str | HangUp], mechanisms: str, expected: Outcome, envelope: Envelope
) -> None:
    """A wrong password is the operator's business, a tired server is not; neither burns the mail."""
    server = ScriptedServer(script, users=USERS, mechanisms=mechanisms)
    assert await send(server, "smtp", envelope) == expected


async def test_the_password_is_nowhere_to_be_seen(
    envelope: Envelope, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither an outcome nor a log nor a repr has it, even if the server echoes nothing but our words."""
    caplog.set_level(logging.DEBUG)
    server = ScriptedServer({"AUTH": "535 5.7.8 no"}, users=USERS)
    outcome = await send(server, "smtp", envelope)
    captured = capsys.readouterr()
    assert "word" not in f"{outcome!r}{caplog.text}{captured.out}{captured.err}"


async def test_the_name_in_the_certificate_is_what_counts(envelope: Envelope) -> None:
    """A host given by name is checked by name."""
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    server = ScriptedServer(tls=context)
    outcome = await send(server, "smtp+starttls", envelope, tls=trusting, host="localhost")
    assert isinstance(outcome, Accepted)


@pytest.mark.parametrize("scheme", ["smtps", "smtp+starttls"])
async def test_an_authority_of_ones_own_is_named_in_the_url(
    scheme: str, certificates: Certificates, envelope: Envelope, tmp_path: Path
) -> None:
    (tmp_path / "ca.pem").write_bytes(certificates.authority)
    server = ScriptedServer(tls=certificates.server, implicit_tls=scheme == "smtps")
    outcomes = []
    with trio.fail_after(PATIENCE):
        async with server.running():
            for options in ("", f"?cafile={tmp_path}/ca.pem"):
                transport = open_transport(f"{scheme}://127.0.0.1:{server.port}{options}")
                outcomes.append(await transport.send(envelope))
                await transport.aclose()
    assert isinstance(outcomes[0], Refused)
    assert outcomes[0].reason == "certificate_invalid"
    assert isinstance(outcomes[1], Accepted)


def test_an_authority_whose_file_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"cafile .*/gone\.pem that cannot be used"):
        open_transport(f"smtps://example.org?cafile={tmp_path}/gone.pem")
