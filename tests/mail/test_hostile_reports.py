"""Reports that no provider sends: whatever stands in a body, it is read, ignored or refused, and nothing fails."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from regsvc.accounts.deliveries.attribution import Senders
from regsvc.flows.feedback import take_reports
from regsvc.mail.reports.mailgun import read_mailgun
from regsvc.mail.reports.messages import MAX_BYTES, read_message
from regsvc.mail.reports.postmark import read_postmark
from regsvc.mail.reports.report import Report, ReportUnreadableError
from regsvc.mail.reports.resend import read_resend
from regsvc.mail.reports.sendgrid import read_sendgrid
from regsvc.mail.reports.ses import read_ses
from tests.accounts import mails
from tests.accounts.attempts import SECRETS, send, sign_up
from tests.http.reports import postmark_bounce
from tests.reports import bounce

if TYPE_CHECKING:
    from uuid import UUID

    from regsvc.postgres.pool import Pool

SENDERS = Senders("example.org", "bounce@b.example.org")
PATIENCE = 5.0  # seconds of processor time for one body, on a busy machine


def _documents(mail_id: UUID) -> dict[str, tuple[Callable[[bytes], list[Report]], Any]]:
    """Return what each provider's reader is given, about one mail."""
    own = str(mail_id)
    return {
        "postmark": (read_postmark, postmark_bounce(own)),
        "sendgrid": (
            read_sendgrid,
            [
                {"email": "ann@example.com", "timestamp": 1_790_000_000, "event": "bounce", "sg_event_id": "id",
                 "sg_message_id": "14c5d75ce93.dfd.64b469", "status": "5.1.1", "type": "bounce", "regsvc_mail": own}
            ],
        ),
        "resend": (
            read_resend,
            {"type": "email.bounced", "created_at": "2026-11-28T03:00:00.000Z",
             "data": {"email_id": "4ef9a417", "tags": {"regsvc_mail": own}, "bounce": {"type": "Permanent",
                      "subType": "General", "message": "no such user"}}},
        ),
        "mailgun": (
            read_mailgun,
            {"event-data": {"event": "failed", "severity": "permanent", "id": "G9Bn5sl1", "timestamp": 1_790_000_000.5,
                            "delivery-status": {"code": 552, "message": "full", "enhanced-code": "5.2.2"},
                            "user-variables": {"regsvc_mail": own},
                            "message": {"headers": {"message-id": f"{own}@example.org"}}}},
        ),
        "ses": (
            read_ses,
            {"notificationType": "Bounce",
             "bounce": {"bounceType": "Permanent", "bounceSubType": "General", "timestamp": "2026-11-28T03:00:00.000Z",
                        "feedbackId": "f", "bouncedRecipients": [{"emailAddress": "a@b.c", "status": "5.1.1"}]},
             "mail": {"messageId": "ses-id", "timestamp": "2026-11-28T02:59:00.000Z",
                      "headers": [{"name": "X-Regsvc-Mail", "value": own}]}},
        ),
    }  # fmt: skip


SOURCES = ("mailgun", "postmark", "resend", "sendgrid", "ses")
HOSTILE: tuple[Any, ...] = (
    None, True, "", "\0", "a\0b", "\ud800", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", 10**400,
    1e308, float("nan"), float("inf"), [], {}, [[]], {"": None}, ["\0", {"name": 1}], "x" * 20_000, "<\r\n>@",
)  # fmt: skip


def _list_places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the way to everything in a document, itself included."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, each in inner:
        yield from _list_places(each, (*path, name))


def _put(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    """Return a document with another value in one place."""
    if not path:
        return value
    changed = copy.deepcopy(document)
    place = changed
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    return changed


async def _take(pool: Pool, read: Callable[[bytes], list[Report]], body: bytes) -> None:
    try:
        reports = read(body)
    except ReportUnreadableError:
        return
    await take_reports(pool, SECRETS, SENDERS, reports)


@pytest.mark.parametrize("source", SOURCES)
async def test_whatever_stands_anywhere_in_a_providers_report_nothing_fails(pool: Pool, source: str) -> None:
    new = await sign_up(pool)
    await send(pool, new.mail_id)
    read, document = _documents(new.mail_id)[source]
    for path in _list_places(document):
        for value in HOSTILE:
            await _take(pool, read, json.dumps(_put(document, path, value)).encode())


@pytest.mark.parametrize("source", SOURCES)
async def test_the_same_report_as_it_should_be_is_taken(pool: Pool, source: str) -> None:
    """Else the test above would show nothing."""
    new = await sign_up(pool)
    await send(pool, new.mail_id)
    read, document = _documents(new.mail_id)[source]
    assert await take_reports(pool, SECRETS, SENDERS, read(json.dumps(document).encode())) == 1
    assert (await mails.get_registration(pool, new.id)).state == "bounced"


async def test_returned_messages_that_are_cut_turned_and_mixed_break_nothing(pool: Pool) -> None:
    rng = random.Random(7)
    new = await sign_up(pool)
    await send(pool, new.mail_id)
    model = bounce(new.mail_id, to="bounce@b.example.org")
    pieces = [
        b"\0", b"\xff\xfe", b"\r\n\r\n", b"--b\r\n", b"--b--", b"Content-Type: message/feedback-report\r\n\r\n",
        b"Content-Type: message/delivery-status\r\n\r\n", b"Content-Type: message/rfc822\r\n\r\n",
        b"Content-Transfer-Encoding: base64\r\n\r\n", b"Date: Sun, 99 Foo 99999 99:99:99 +9999\r\n",
        b"Last-Attempt-Date: Mon, 1 Jan 0001 00:00:00 +2359\r\n", b"Action: failed\r\nStatus: 5.\0.1\r\n",
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n", b"Message-ID: <\xc3\x28@example.org>\r\n",
        b"To: =?utf-8?b?////?= <bounce+x@b.example.org>\r\n", b"References: " + b"<a@b> " * 2_000 + b"\r\n",
    ]  # fmt: skip
    for _ in range(400):
        octets = bytearray(model)
        for _ in range(rng.randrange(1, 6)):
            place = rng.randrange(len(octets))
            match rng.randrange(4):
                case 0:
                    octets[place : place + rng.randrange(60)] = b""
                case 1:
                    octets[place:place] = rng.choice(pieces)
                case 2:
                    octets[place] = rng.randrange(256)
                case _:
                    octets[place:place] = model[rng.randrange(len(model)) :][: rng.randrange(400)]
        await _take(pool, read_message, bytes(octets))


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"[" * 200_000, id="brackets"),
        pytest.param(b'{"a":' * 100_000, id="objects"),
        pytest.param(b"1" * 500_000, id="digits"),
        pytest.param(b'"' + b"\\u0000" * 80_000 + b'"', id="escapes"),
        pytest.param(b"\xff" * 1000, id="octets"),
        pytest.param(b"", id="nothing"),
        pytest.param(b"\xef\xbb\xbf{}", id="mark"),
    ],
)
async def test_bodies_that_are_no_documents_are_refused(pool: Pool, body: bytes) -> None:
    for read, _ in _documents((await sign_up(pool)).mail_id).values():
        await _take(pool, read, body)


@pytest.mark.parametrize(
    "filling",
    [
        pytest.param(b"--b\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n", id="parts in parts"),
        pytest.param(b"Content-Type: message/rfc822\r\n\r\n", id="messages in messages"),
        pytest.param(b"Received: by a\r\n", id="fields"),
        pytest.param(b" \t", id="space"),
        pytest.param(b"<a@b.example>: 550 5.1.1 unknown user\r\n", id="recipients"),
        pytest.param(b"=?utf-8?q?", id="words"),
    ],
)
async def test_a_message_as_large_as_may_be_takes_bounded_time(pool: Pool, filling: bytes) -> None:
    new = await sign_up(pool)
    head = bounce(new.mail_id, to="bounce@b.example.org")
    body = (head + filling * (MAX_BYTES // len(filling)))[:MAX_BYTES]
    await _take(pool, read_message, body)
    await _take(pool, read_message, (filling * (MAX_BYTES // len(filling) + 1))[:MAX_BYTES])
