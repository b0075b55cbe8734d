"""Postmark webhooks: Delivery, Bounce, SpamComplaint."""

from __future__ import annotations

from typing import Final

from regsvc.mail.reports.fields import TAG, Fields, get_object, get_text, load_object, read_time
from regsvc.mail.reports.report import Clues, Event, Kind, Reason, Report
from regsvc.mail.reports.status_codes import explain_status

# https://postmarkapp.com/developer/api/bounce-api#bounce-types; every other type says nothing about delivery.
_BOUNCES: Final[dict[str, tuple[Event, Kind | None, Reason | None]]] = {
    "HardBounce": ("bounced", "hard", "no_such_mailbox"),
    "BadEmailAddress": ("bounced", "hard", "no_such_mailbox"),
    "ManuallyDeactivated": ("failed", "block", "policy"),
    "Blocked": ("bounced", "block", "policy"),
    "SpamNotification": ("bounced", "block", "blocked_as_spam"),
    "DMARCPolicy": ("bounced", "block", "policy"),
    "TemplateRenderingFailed": ("failed", "block", "other"),
    "SMTPApiError": ("failed", "block", "other"),
    "InboundError": ("failed", "soft", "other"),
    "SoftBounce": ("bounced", "soft", "other"),
    "Undeliverable": ("bounced", "soft", "timed_out"),
    "DnsError": ("bounced", "soft", "no_such_domain"),
    "Transient": ("deferred", None, "other"),
    "SpamComplaint": ("complained", None, None),
}


def read_postmark(raw: bytes) -> list[Report]:
    """Return the reports of a webhook's body.

    Raises:
        ReportUnreadableError: it is not one of Postmark's.
    """
    fields = load_object(raw)
    match get_text(fields, "RecordType"):
        case "Delivery":
            return [_make(fields, "delivered", fields.get("DeliveredAt"))]
        case "Bounce" | "SpamComplaint":
            kind_name = get_text(fields, "Type")
            if kind_name not in _BOUNCES:
                return []
            event, kind, reason = _BOUNCES[kind_name]
            if event == "bounced" and kind == "soft" and reason == "other":
                kind, reason = explain_status(
                    "", get_text(fields, "Details") or get_text(fields, "Description")
                )
            return [_make(fields, event, fields.get("BouncedAt"), kind, reason)]
    return []


def _make(
    fields: Fields, event: Event, at: object, kind: Kind | None = None, reason: Reason | None = None
) -> Report:
    message_id = get_text(fields, "MessageID")
    tag = get_text(get_object(fields, "Metadata"), TAG)
    return Report(
        "postmark",
        f"{message_id}/{get_text(fields, 'ID')}/{at}",
        event,
        read_time(at),
        kind,
        reason,
        Clues(mail_ids=(tag,), provider_id=message_id or None),
    )
