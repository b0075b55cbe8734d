"""The types of events, and the CloudEvents (version 1.0) that other services receive."""

from __future__ import annotations

import json
from typing import Any, Final

TYPES: Final = (
    "registration.created",
    "registration.sent",
    "registration.delivered",
    "registration.bounced",
    "registration.confirmed",
    "registration.expired",
    "registration.repudiated",
    "user.created",
    "user.updated",
    "user.disabled",
    "user.enabled",
    "user.deleted",
    "session.started",
    "session.ended",
    "factor.added",
    "factor.removed",
    "mail.complained",
)
TEST_TYPE: Final = "webhook.test"
CONTENT_TYPE: Final = "application/cloudevents+json"


def write_event(event: dict[str, Any], source: str, *, email: str | None = None) -> bytes:
    """Return an event as a CloudEvent in JSON. The same event is the same bytes, unless its address has changed.

    Args:
        event: a row of `events`, as PostgreSQL writes it in JSON.
        source: the public URL of this service.
        email: the subject's address, where the operator wants it sent.
    """
    data = event["data"] if email is None else {**event["data"], "email": email}
    told = {
        "specversion": "1.0",
        "id": event["id"],
        "source": source,
        "type": event["type"],
        "subject": f"{event['subject_kind']}/{event['subject']}",
        "time": event["at"],
        "datacontenttype": "application/json",
        "data": data,
    }
    return json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode()
