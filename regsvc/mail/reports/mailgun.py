"""Mailgun webhooks."""

from __future__ import annotations

from regsvc.mail.reports.fields import HEADER, TAG, Fields, get_object, get_text, load_object, read_time
from regsvc.mail.reports.report import Clues, Event, Kind, Reason, Report
from regsvc.mail.reports.status_codes import explain_status


def read_mailgun(raw: bytes) -> list[Report]:
    """Return the reports of a webhook's body.

    Raises:
        ReportUnreadableError: it is not one of Mailgun's.
    """
    fields = get_object(load_object(raw), "event-data")
    event, kind, reason = _explain(fields)
    if event is None:
        return []
    message = get_object(fields, "message")
    headers = get_object(message, "headers")
    message_id = get_text(headers, "message-id")
    ours = (get_text(get_object(fields, "user-variables"), TAG), get_text(headers, HEADER))
    return [
        Report(
            "mailgun",
            get_text(fields, "id") or f"{message_id}/{fields.get('timestamp')}",
            event,
            read_time(fields.get("timestamp")),
            kind,
            reason,
            Clues(message_ids=(message_id,), mail_ids=ours, provider_id=message_id or None),
        )
    ]


def _explain(fields: Fields) -> tuple[Event | None, Kind | None, Reason | None]:
    status = get_object(fields, "delivery-status")
    words = f"{get_text(status, 'message')} {get_text(status, 'description')}"
    kind, reason = explain_status(get_text(status, "enhanced-code"), words)
    if get_text(fields, "reason") == "suppress-bounce":
        kind, reason = "hard", "no_such_mailbox"
    elif get_text(fields, "reason") == "old":
        kind, reason = "soft", "timed_out"
    match get_text(fields, "event"):
        case "delivered" | "complained" as event:
            return ("delivered" if event == "delivered" else "complained"), None, None
        case "failed" if get_text(fields, "severity") == "temporary":
            return "deferred", None, reason
        case "failed" | "rejected" as event:
            return ("bounced" if event == "failed" else "failed"), kind, reason
    return None, None, None
