"""Reports that come as mails: delivery status notifications (RFC 3464) and abuse reports (RFC 5965).

The standard library reads the parts that standards define. `flufl.bounce` recognises bounces in other forms; it says
whether the failure is permanent, never whose mail it was.
"""

from __future__ import annotations

import email
import email.policy
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from email.message import Message
from email.utils import parsedate_to_datetime
from hashlib import sha256

from regsvc.mail.reports.fields import HEADER, check_time
from regsvc.mail.reports.report import Clues, Event, Kind, Reason, Report, ReportUnreadableError
from regsvc.mail.reports.status_codes import explain_status

MAX_BYTES = 262_144
_ACTIONS: dict[str, Event] = {
    "delivered": "delivered",
    "relayed": "delivered",
    "delayed": "deferred",
    "failed": "bounced",
}
_PARTS = 50  # of a message that are looked at


def read_clues(raw: bytes) -> Clues:
    """Return what a message says about the mail that it may concern, from its headers and the returned ones.

    Raises:
        ReportUnreadableError: it is too large, or too deep.
    """
    return _find_clues(_parse(raw))


def read_message(raw: bytes, *, now: datetime | None = None) -> list[Report]:
    """Return the reports of a message; none of an automatic reply or any other message.

    Args:
        raw: the message as it arrived.
        now: time of a report that has none of its own.

    Raises:
        ReportUnreadableError: it is too large, or too deep.
    """
    message = _parse(raw)
    clues, now = _find_clues(message), now or datetime.now(UTC)
    digest = sha256(raw).hexdigest()
    for part in _walk(message):
        match part.get_content_type():
            case "message/feedback-report":
                return [_read_abuse(part, message, clues, digest, now)]
            case "message/delivery-status" | "message/global-delivery-status":
                return list(_read_status(part, message, clues, now))
    return _detect(message, clues, digest, now)


def _parse(raw: bytes) -> Message:
    if len(raw) > MAX_BYTES:
        raise ReportUnreadableError("The message is larger than 256 KiB.")
    try:
        return email.message_from_bytes(raw, policy=email.policy.compat32)
    except RecursionError as error:  # the standard library's parser calls itself for a message in a message
        raise ReportUnreadableError("The message has too many others in it.") from error


def _walk(message: Message) -> Iterator[Message]:
    for place, part in enumerate(message.walk()):
        if place == _PARTS:
            return
        yield part


def _find_clues(message: Message) -> Clues:
    paths = [
        str(value)
        for name in ("To", "Delivered-To", "X-Original-To", "Envelope-To")
        for value in message.get_all(name, [])
    ]
    ids: list[str] = []
    ours: list[str] = []
    for part in _walk(message):
        kind = part.get_content_type()
        if kind in {"message/delivery-status", "message/global-delivery-status"}:
            ours += [_text(block, "Original-Envelope-Id") for block in _blocks(part)]
        elif kind == "message/feedback-report":
            paths += [_text(block, "Original-Mail-From") for block in _blocks(part)]
        elif part is not message and kind in {
            "text/rfc822-headers",
            "message/rfc822-headers",
            "message/global-headers",
        }:
            returned = email.message_from_string(str(part.get_payload()), policy=email.policy.compat32)
            _collect(returned, paths, ids, ours)
        elif kind in {"message/rfc822", "message/global"} and isinstance(part.get_payload(), list):
            for inner in _blocks(part):
                _collect(inner, paths, ids, ours)
    ids += [reference for name in ("In-Reply-To", "References") for reference in _text(message, name).split()]
    return Clues(
        return_paths=tuple(address for text in paths for address in _addresses(text)),
        message_ids=tuple(filter(None, ids)),
        mail_ids=tuple(filter(None, ours)),
    )


def _collect(returned: Message, paths: list[str], ids: list[str], ours: list[str]) -> None:
    paths.append(_text(returned, "Return-Path"))
    ids.append(_text(returned, "Message-ID"))
    ours.append(_text(returned, HEADER))


def _addresses(text: str) -> Iterator[str]:
    for word in text.replace(",", " ").split():
        if "@" in word:
            yield word.strip("<>\"';")


def _text(message: Message, name: str) -> str:
    return str(message.get(name, "")).strip()


def _blocks(part: Message) -> list[Message]:
    """Return the groups of fields of a status part, which the standard library parses as messages."""
    payload = part.get_payload()
    if isinstance(payload, list):
        return [block for block in payload if isinstance(block, Message)]
    return [email.message_from_string(str(payload), policy=email.policy.compat32)]


def _read_status(part: Message, message: Message, clues: Clues, now: datetime) -> Iterator[Report]:
    for block in _blocks(part):
        event = _ACTIONS.get(_text(block, "Action").lower())
        if event is None:
            continue
        status = _text(block, "Status")
        kind, reason = explain_status(status, _text(block, "Diagnostic-Code"))
        if event == "bounced" and status.startswith("4."):
            kind, reason = "soft", "timed_out" if reason == "other" else reason
        at = _date(_text(block, "Last-Attempt-Date")) or _date(_text(message, "Date")) or now
        yield Report(
            "dsn",
            f"{_text(message, 'Message-ID')}/{_text(block, 'Final-Recipient')}/{at.isoformat()}/{status}",
            event,
            at,
            kind if event == "bounced" else None,
            None if event == "delivered" else reason,
            clues,
        )
        return  # a mail of ours has one recipient


def _read_abuse(part: Message, message: Message, clues: Clues, digest: str, now: datetime) -> Report:
    fields = _blocks(part)[0]
    at = (
        _date(_text(fields, "Arrival-Date"))
        or _date(_text(fields, "Received-Date"))
        or _date(_text(message, "Date"))
    )
    return Report("arf", _text(message, "Message-ID") or digest, "complained", at or now, clues=clues)


def _detect(message: Message, clues: Clues, digest: str, now: datetime) -> list[Report]:
    if _text(message, "Auto-Submitted").lower().startswith("auto-replied"):
        return []
    from flufl.bounce import all_failures  # noqa: PLC0415 - few processes read messages

    logging.getLogger("flufl.bounce").disabled = True  # it logs whatever a stranger's message breaks
    try:
        temporary, permanent = all_failures(message)
    except Exception:  # noqa: BLE001 - its detectors rely on fields that a message need not have
        return []
    if not temporary and not permanent:
        return []
    event: Event = "bounced" if permanent else "deferred"
    kind: Kind | None
    reason: Reason
    kind, reason = explain_status("", _read_text(message))
    at = _date(_text(message, "Date")) or now
    return [Report("dsn", digest, event, at, kind if permanent else None, reason, clues)]


def _read_text(message: Message) -> str:
    for part in _walk(message):
        if part.get_content_type() == "text/plain":
            payload = part.get_payload(decode=True)
            return payload[:8192].decode("latin-1") if isinstance(payload, bytes) else ""
    return ""


def _date(text: str) -> datetime | None:
    try:
        return check_time(parsedate_to_datetime(text))
    except (ValueError, TypeError, OverflowError):
        return None
