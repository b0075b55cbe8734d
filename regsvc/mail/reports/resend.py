"""Resend webhooks."""

from __future__ import annotations

from typing import Final

from regsvc.mail.reports.fields import HEADER, TAG, Fields, get_object, get_text, load_object, read_time
from regsvc.mail.reports.report import Clues, Event, Kind, Reason, Report
from regsvc.mail.reports.status_codes import explain_status

_EVENTS: Final[dict[str, Event]] = {
    "email.delivered": "delivered",
    "email.delivery_delayed": "deferred",
    "email.bounced": "bounced",
    "email.complained": "complained",
    "email.failed": "failed",
    "email.suppressed": "failed",
}
_SUBTYPES: Final[dict[str, tuple[Kind, Reason]]] = {
    "MailboxFull": ("soft", "mailbox_full"),
    "ContentRejected": ("block", "blocked_as_spam"),
    "NoEmail": ("hard", "no_such_mailbox"),
    "Suppressed": ("hard", "no_such_mailbox"),
}


def read_resend(raw: bytes) -> list[Report]:
    """Return the reports of a webhook's body.

    Raises:
        ReportUnreadableError: it is not one of Resend's.
    """
    fields = load_object(raw)
    event = _EVENTS.get(get_text(fields, "type"))
    if event is None:
        return []
    data = get_object(fields, "data")
    kind, reason = _explain(event, get_object(data, "bounce"))
    email_id = get_text(data, "email_id")
    return [
        Report(
            "resend",
            f"{email_id}/{fields.get('created_at')}",
            event,
            read_time(fields.get("created_at")),
            kind,
            reason,
            Clues(mail_ids=tuple(_find_ours(data)), provider_id=email_id or None),
        )
    ]


def _explain(event: Event, bounce: Fields) -> tuple[Kind | None, Reason | None]:
    if event == "deferred":
        return None, "other"
    if event == "failed":
        return "block", "policy"
    if event != "bounced":
        return None, None
    known = _SUBTYPES.get(get_text(bounce, "subType"))
    kind, reason = known or explain_status("", get_text(bounce, "message"))
    if get_text(bounce, "type") == "Permanent" and known is None:
        return "hard", reason if reason != "other" else "no_such_mailbox"
    return kind, reason


def _find_ours(data: Fields) -> list[str]:
    tags, headers = data.get("tags"), data.get("headers")
    found = [get_text(tags, TAG)] if isinstance(tags, dict) else []
    pairs = (tags if isinstance(tags, list) else []) + (headers if isinstance(headers, list) else [])
    found += [
        get_text(pair, "value")
        for pair in pairs
        if isinstance(pair, dict) and get_text(pair, "name").lower() in {TAG, HEADER}
    ]
    return found
