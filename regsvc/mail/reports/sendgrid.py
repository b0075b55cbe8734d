"""SendGrid's Event Webhook: a list of events."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from regsvc.mail.reports.fields import TAG, Fields, get_text, load, read_time
from regsvc.mail.reports.report import Clues, Event, Kind, Reason, Report, ReportUnreadableError
from regsvc.mail.reports.status_codes import explain_status

_EVENTS: Final[dict[str, Event]] = {
    "delivered": "delivered",
    "deferred": "deferred",
    "bounce": "bounced",
    "dropped": "failed",
    "spamreport": "complained",
}


def read_sendgrid(raw: bytes) -> list[Report]:
    """Return the reports of a webhook's body.

    Raises:
        ReportUnreadableError: it is not one of SendGrid's.
    """
    events = load(raw)
    if not isinstance(events, list):
        raise ReportUnreadableError
    return list(_read(events))


def _read(events: list[object]) -> Iterator[Report]:
    for fields in events:
        if not isinstance(fields, dict):
            raise ReportUnreadableError
        event = _EVENTS.get(get_text(fields, "event"))
        if event is None:
            continue
        kind, reason = _explain(event, fields)
        provider_id = get_text(fields, "sg_message_id")
        yield Report(
            "sendgrid",
            get_text(fields, "sg_event_id") or f"{provider_id}/{fields.get('timestamp')}",
            event,
            read_time(fields.get("timestamp")),
            kind,
            reason,
            Clues(
                message_ids=(get_text(fields, "smtp-id"),),
                mail_ids=(get_text(fields, TAG),),
                provider_id=provider_id.partition(".")[0] or None,  # as the API answered
            ),
        )


def _explain(event: Event, fields: Fields) -> tuple[Kind | None, Reason | None]:
    words = get_text(fields, "reason") or get_text(fields, "response")
    if event == "deferred":
        return None, explain_status("", words)[1]
    if event == "failed":
        return ("hard", "no_such_mailbox") if "bounced address" in words.lower() else ("block", "policy")
    if event != "bounced":
        return None, None
    kind, reason = explain_status(get_text(fields, "status"), words)
    return ("block" if get_text(fields, "type") == "blocked" else kind), reason
