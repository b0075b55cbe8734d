"""Amazon SES notifications and event publishing, as SNS carries them."""

from __future__ import annotations

from typing import Final

from regsvc.mail.reports.fields import (
    HEADER,
    TAG,
    Fields,
    get_object,
    get_text,
    get_texts,
    load_object,
    read_time,
)
from regsvc.mail.reports.report import Clues, Event, Kind, Reason, Report
from regsvc.mail.reports.status_codes import explain_status

_EVENTS: Final[dict[str, tuple[Event, str]]] = {
    "Delivery": ("delivered", "delivery"),
    "DeliveryDelay": ("deferred", "deliveryDelay"),
    "Bounce": ("bounced", "bounce"),
    "Complaint": ("complained", "complaint"),
    "Reject": ("failed", "reject"),
    "Rendering Failure": ("failed", "failure"),
}
_BOUNCES: Final[dict[str, tuple[Kind, Reason]]] = {
    "NoEmail": ("hard", "no_such_mailbox"),
    "Suppressed": ("hard", "no_such_mailbox"),
    "OnAccountSuppressionList": ("hard", "no_such_mailbox"),
    "MailboxFull": ("soft", "mailbox_full"),
    "MessageTooLarge": ("block", "policy"),
    "ContentRejected": ("block", "blocked_as_spam"),
    "AttachmentRejected": ("block", "policy"),
}
_DELAYS: Final[dict[str, Reason]] = {
    "MailboxFull": "mailbox_full",
    "SpamDetected": "blocked_as_spam",
    "RecipientServerError": "timed_out",
    "TransientCommunicationFailure": "timed_out",
    "IPFailure": "policy",
}


def read_ses(raw: bytes | str) -> list[Report]:
    """Return the reports of an SNS notification's `Message`.

    Raises:
        ReportUnreadableError: it is not one of SES's.
    """
    fields = load_object(raw)
    known = _EVENTS.get(get_text(fields, "eventType") or get_text(fields, "notificationType"))
    if known is None:
        return []
    event, part = known
    details, mail = get_object(fields, part), get_object(fields, "mail")
    kind, reason = _explain(event, details)
    at = details.get("timestamp") or mail.get("timestamp")
    message_id = get_text(mail, "messageId")
    return [
        Report(
            "ses",
            get_text(details, "feedbackId") or f"{message_id}/{at}",
            event,
            read_time(at),
            kind,
            reason,
            _find_clues(mail, message_id),
        )
    ]


def _explain(event: Event, details: Fields) -> tuple[Kind | None, Reason | None]:
    if event == "deferred":
        return None, _DELAYS.get(get_text(details, "delayType"), "other")
    if event == "failed":
        return "block", "blocked_as_spam"  # a virus was found
    if event != "bounced":
        return None, None
    if (known := _BOUNCES.get(get_text(details, "bounceSubType"))) is not None:
        return known
    recipients = details.get("bouncedRecipients")
    first = (
        recipients[0]
        if isinstance(recipients, list) and recipients and isinstance(recipients[0], dict)
        else {}
    )
    kind, reason = explain_status(get_text(first, "status"), get_text(first, "diagnosticCode"))
    if get_text(details, "bounceType") == "Permanent":
        return ("hard", "no_such_mailbox") if reason == "other" else (kind, reason)
    return ("soft" if kind == "hard" else kind), reason


def _find_clues(mail: Fields, message_id: str) -> Clues:
    """SES replaces the Message-ID that we gave, but returns our headers and tags."""
    ours = list(get_texts(get_object(mail, "tags").get(TAG)))
    originals: list[str] = []
    headers = mail.get("headers")
    for header in headers if isinstance(headers, list) else []:
        if isinstance(header, dict):
            name = get_text(header, "name").lower()
            if name == HEADER:
                ours.append(get_text(header, "value"))
            elif name == "message-id":
                originals.append(get_text(header, "value"))
    return Clues(message_ids=tuple(originals), mail_ids=tuple(ours), provider_id=message_id or None)
