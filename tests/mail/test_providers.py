"""Mail by providers' HTTP APIs, each as it documents its protocol."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from email import message_from_bytes
from typing import TYPE_CHECKING, get_args
from uuid import UUID

import pytest
import trio

from regsvc.config.mail_url import read_mail_url
from regsvc.config.provider_url import MailProvider, ProviderName
from regsvc.mail.outcome import Aborted, Accepted, Bounced, Delayed, Outcome, Refused
from regsvc.mail.providers.sigv4 import sign
from regsvc.mail.smtp.connection import Deadlines
from regsvc.mail.transport import open_transport
from tests.mail.providers import PATIENCE, ProviderServer, Reply, hang_up, say, stay_silent

if TYPE_CHECKING:
    from regsvc.mail.envelope import Envelope

NAMES = get_args(ProviderName)
MAIL_ID = UUID(int=7)


@pytest.fixture
def envelope() -> Envelope:
    from email.headerregistry import Address  # noqa: PLC0415 - the fixture's own

    from regsvc.mail.envelope import Envelope  # noqa: PLC0415 - likewise
    from regsvc.mail.message.render import AccountExistsMail, Renderer  # noqa: PLC0415 - likewise

    now = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
    mail = AccountExistsMail(
        occurred_at=now,
        origin="192.0.2.0/24",
        client="Firefox",
        login_link="https://x.example/login",
        reset_link="https://x.example/forgot",
    )
    sender = Address("Büro", addr_spec="no-reply@example.org")
    data = Renderer(sender=sender, brand="Shop").render(
        mail, mail_id=MAIL_ID, recipient="jane@example.net", locale="de", now=now
    )
    return Envelope("no-reply@example.org", "jane@example.net", data)


async def send(server: ProviderServer, envelope: Envelope, **deadlines: float) -> Outcome:
    with trio.fail_after(PATIENCE):
        async with server.running():
            transport = open_transport(server.url, deadlines=Deadlines(**deadlines))
            outcome = await transport.send(envelope)
            await transport.aclose()
            return outcome


@pytest.mark.parametrize("name", NAMES)
async def test_a_mail_is_handed_over_and_the_id_of_the_provider_kept(
    name: ProviderName, envelope: Envelope
) -> None:
    server = ProviderServer(name)
    outcome = await send(server, envelope)
    assert isinstance(outcome, Accepted)
    assert outcome.provider_id == "kept-1"
    (seen,) = server.mails
    text = (
        base64.b64decode(seen.document["Content"]["Raw"]["Data"]) if name == "ses" else seen.body
    ).decode()
    assert str(MAIL_ID) in text
    assert "https://x.example/login" in text


async def test_each_protocol_is_spoken_as_documented(envelope: Envelope) -> None:
    servers = {name: ProviderServer(name) for name in NAMES}
    for server in servers.values():
        await send(server, envelope)
    seen = {name: server.mails[0] for name, server in servers.items()}
    own = str(MAIL_ID)
    assert seen["resend"].path == "/emails"
    assert seen["resend"].headers["authorization"] == "Bearer canary-key"
    assert seen["resend"].headers["idempotency-key"].startswith(own)
    assert seen["resend"].document["from"] == '"Büro" <no-reply@example.org>'
    assert seen["resend"].document["tags"] == [{"name": "regsvc_mail", "value": own}]
    assert seen["postmark"].path == "/email"
    assert seen["postmark"].headers["x-postmark-server-token"] == "canary-key"
    assert seen["postmark"].document["Metadata"] == {"regsvc_mail": own}
    assert seen["postmark"].document["TrackLinks"] == "None"
    assert seen["sendgrid"].path == "/v3/mail/send"
    assert seen["sendgrid"].document["personalizations"][0]["custom_args"] == {"regsvc_mail": own}
    assert seen["sendgrid"].document["tracking_settings"]["click_tracking"]["enable"] is False
    assert [part["type"] for part in seen["sendgrid"].document["content"]] == ["text/plain", "text/html"]
    assert seen["mailgun"].path == "/v3/example.org/messages.mime"
    assert seen["mailgun"].headers["authorization"] == "Basic " + base64.b64encode(b"api:canary-key").decode()
    kind = f"Content-Type: {seen['mailgun'].headers['content-type']}\r\n\r\n"
    form = message_from_bytes(kind.encode() + seen["mailgun"].body)
    names = [part.get_param("name", header="content-disposition") for part in form.get_payload()]  # type: ignore[union-attr]
    assert names == ["to", "v:regsvc_mail", "o:tracking", "message"]
    assert envelope.data in seen["mailgun"].body
    assert seen["ses"].path == "/v2/email/outbound-emails"
    assert seen["ses"].headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/")
    assert base64.b64decode(seen["ses"].document["Content"]["Raw"]["Data"]) == envelope.data
    assert seen["ses"].document["EmailTags"] == [{"Name": "regsvc_mail", "Value": own}]


def test_amazons_signature_is_that_of_its_documentation() -> None:
    """`post-x-www-form-urlencoded` of the suite of tests that Amazon publishes for version 4."""
    headers = sign(
        host="example.amazonaws.com",
        path="/",
        body=b"Param1=value1",
        headers={"Content-Type": "application/x-www-form-urlencoded"},
        key_id="AKIDEXAMPLE",
        secret="wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
        region="us-east-1",
        service="service",
        now=datetime(2015, 8, 30, 12, 36, tzinfo=UTC),
    )
    assert headers["Authorization"].endswith(
        "SignedHeaders=content-type;host;x-amz-date, "
        "Signature=ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"
    )


def _json(status: int, **document: object) -> Reply:
    return status, {"Content-Type": "application/json"}, json.dumps(document).encode()


OBJECTIONS: dict[str, tuple[ProviderName, Reply, type[Outcome], str]] = {
    "resend, key": (
        "resend",
        _json(403, name="invalid_api_key", message="API key is invalid"),
        Refused,
        "auth_failed",
    ),
    "resend, domain": (
        "resend",
        _json(403, name="validation_error", message="The example.org domain is not verified."),
        Refused,
        "sender_refused",
    ),
    "resend, rate": (
        "resend",
        _json(429, name="rate_limit_exceeded", message="Too many requests."),
        Delayed,
        "service_unavailable",
    ),
    "resend, quota": (
        "resend",
        _json(429, name="daily_quota_exceeded", message="You have reached your daily email sending quota."),
        Refused,
        "sending_limit_reached",
    ),
    "postmark, inactive": (
        "postmark",
        _json(
            422, ErrorCode=406, Message="You tried to send to a recipient that has been marked as inactive."
        ),
        Bounced,
        "recipient_refused",
    ),
    "postmark, token": (
        "postmark",
        _json(401, ErrorCode=10, Message="Request does not contain a valid Server token."),
        Refused,
        "auth_failed",
    ),
    "postmark, signature": (
        "postmark",
        _json(422, ErrorCode=400, Message="The 'From' address is not a Sender Signature on your account."),
        Refused,
        "sender_refused",
    ),
    "sendgrid, sender": (
        "sendgrid",
        _json(
            403,
            errors=[{"message": "From address: no verified Sender Identity.", "field": "from"}],
        ),
        Refused,
        "sender_refused",
    ),
    "sendgrid, credits": (
        "sendgrid",
        _json(401, errors=[{"message": "Maximum credits exceeded", "field": None}]),
        Refused,
        "sending_limit_reached",
    ),
    "sendgrid, recipient": (
        "sendgrid",
        _json(
            400,
            errors=[
                {"message": "Does not contain a valid address.", "field": "personalizations.0.to.0.email"}
            ],
        ),
        Bounced,
        "recipient_refused",
    ),
    "mailgun, key": ("mailgun", (401, {}, b"Forbidden"), Refused, "auth_failed"),
    "mailgun, recipient": (
        "mailgun",
        _json(400, message="'to' parameter is not a valid address. please check documentation"),
        Bounced,
        "recipient_refused",
    ),
    "ses, sandbox": (
        "ses",
        (
            400,
            {"x-amzn-ErrorType": "MessageRejected"},
            b'{"message": "Email address is not verified. The following identities failed: jane@example.net"}',
        ),
        Refused,
        "sender_refused",
    ),
    "ses, rate": (
        "ses",
        (429, {"x-amzn-ErrorType": "TooManyRequestsException"}, b'{"message": "Rate exceeded"}'),
        Delayed,
        "service_unavailable",
    ),
    "ses, quota": (
        "ses",
        (
            400,
            {"x-amzn-ErrorType": "LimitExceededException:"},
            b'{"message": "Daily message quota exceeded."}',
        ),
        Refused,
        "sending_limit_reached",
    ),
    "ses, paused": (
        "ses",
        (400, {"x-amzn-ErrorType": "SendingPausedException"}, b'{"message": "Email sending is disabled."}'),
        Refused,
        "policy_refused",
    ),
    "ses, key": (
        "ses",
        (
            403,
            {"x-amzn-ErrorType": "InvalidClientTokenIdException"},
            b'{"message": "The security token is invalid."}',
        ),
        Refused,
        "auth_failed",
    ),
    "a redirect": ("resend", (307, {"Location": "http://127.0.0.1:1/"}, b""), Delayed, "service_unavailable"),
    "away": ("ses", (503, {}, b"later"), Delayed, "service_unavailable"),
}


@pytest.mark.parametrize("case", sorted(OBJECTIONS))
async def test_an_objection_is_one_of_the_outcomes(case: str, envelope: Envelope) -> None:
    """None of them leaves it open whether the mail was taken, and what is about us bounces no person."""
    name, reply, kind, reason = OBJECTIONS[case]
    outcome = await send(ProviderServer(name, [reply]), envelope)
    assert isinstance(outcome, kind)
    assert not isinstance(outcome, Accepted | Aborted)
    assert outcome.reason == reason
    assert not getattr(outcome, "after_dot", False)
    assert "canary" not in outcome.reply


UNKNOWN: dict[str, Reply] = {
    "silent": stay_silent,
    "hangs up": hang_up,
    "cut in its head": say(b"HTTP/1.1 200 OK\r\nContent-Le"),
    "cut in its body": say(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"id": '),
    "garbage": say(b"\x00\xff garbage\r\n\r\n"),
    "a huge head": say(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000),
    "a huge body": say(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 300_000),
    "another site's page": (
        200,
        {"Content-Type": "text/html"},
        b"<html>Log in to the hotel's network</html>",
    ),
    "deep": (200, {}, b'{"id":' + b"[" * 60_000),
    "an error behind the API": (500, {}, b"{}"),
    "a gateway's error": (502, {}, b"<html>"),
}


@pytest.mark.parametrize("case", sorted(UNKNOWN))
async def test_after_the_request_an_answer_that_cannot_be_read_leaves_it_open(
    case: str, envelope: Envelope
) -> None:
    outcome = await send(ProviderServer("resend", [UNKNOWN[case]]), envelope, after_dot=0.5)
    assert isinstance(outcome, Delayed)
    assert outcome.after_dot


async def test_a_provider_that_is_not_reached_has_not_got_the_mail(envelope: Envelope) -> None:
    server = ProviderServer("postmark")
    async with server.running():
        pass
    transport = open_transport(server.url)
    outcome = await transport.send(envelope)
    assert outcome == Delayed("connect_failed", "connect", outcome.reply)  # type: ignore[union-attr]
    check = await transport.check()
    assert isinstance(check, Delayed)


async def test_a_mail_that_is_withdrawn_is_not_sent(envelope: Envelope) -> None:
    server = ProviderServer("resend")
    async with server.running():
        transport = open_transport(server.url)
        connected = []
        outcome = await transport.send(envelope, lambda: False, lambda: connected.append(True))
        assert isinstance(outcome, Aborted)
        assert connected == [True]
        assert isinstance(await transport.check(), Accepted)
        assert server.requests == []
        assert isinstance(await transport.send(envelope), Accepted)
        await transport.aclose()


async def test_a_second_try_is_known_by_its_key(envelope: Envelope) -> None:
    """The provider took the mail and its answer was lost; the same octets bring the same key."""
    server = ProviderServer("resend")
    async with server.running():
        transport = open_transport(server.url)
        for _ in range(2):
            assert isinstance(await transport.send(envelope), Accepted)
        await transport.aclose()
    assert len(server.requests) == 2
    assert len(server.mails) == 1


def test_the_urls_of_providers() -> None:
    place = read_mail_url("mailgun://key%2F1@mg.example.org?region=eu")
    assert isinstance(place, MailProvider)
    assert (place.key, place.place, place.base) == ("key/1", "mg.example.org", "https://api.eu.mailgun.net")
    place = read_mail_url("ses://AKID:a%2Fb@eu-central-1")
    assert isinstance(place, MailProvider)
    assert (place.key_id, place.key, place.base) == (
        "AKID",
        "a/b",
        "https://email.eu-central-1.amazonaws.com",
    )
    assert "a/b" not in repr(place)
    for text, said in (
        ("resend://KEY", "write it as name://KEY@"),
        ("resend://@", "has no key"),
        ("resend://KEY:x@", "has a password"),
        ("postmark://KEY@example.org", "something after its @"),
        ("mailgun://KEY@", "needs its domain"),
        ("mailgun://KEY@example.org?region=moon", "unknown region"),
        ("ses://KEY@eu-central-1", "needs KEY_ID:SECRET|has no key"),
        ("ses://ID:SECRET@home", "needs a region"),
        ("resend://KEY@?speed=1", "unknown option speed"),
        ("resend://KEY@?base=ftp://x", "base that is not"),
    ):
        with pytest.raises(ValueError, match=said) as caught:
            read_mail_url(text)
        assert "KEY@" not in str(caught.value).replace("name://KEY@", "")
