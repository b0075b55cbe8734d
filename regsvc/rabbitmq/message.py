"""The one message that goes through RabbitMQ: the id of a mail, without personal data."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING
from uuid import UUID

from regsvc.errors import MalformedMessageError
from regsvc.tracing.spans import is_on
from regsvc.tracing.trace_context import TraceContext, parse_traceparent

if TYPE_CHECKING:
    from pamqp.commands import Basic

CONTENT_TYPE = "application/json"
TYPE = "regsvc.mail.v1"
MAX_BYTES = 1024  # our bodies have 60


def encode(mail_id: UUID) -> bytes:
    """Return the message body for the id of a mail."""
    return json.dumps({"id": str(mail_id), "kind": "mail"}).encode()


def decode(body: bytes, properties: Basic.Properties) -> UUID:
    """Return the id of a mail from a message as `encode` makes it.

    Unknown fields are ignored, since a later version may add some. All fields that this version relies on are checked.

    Raises:
        MalformedMessageError: with what is wrong, in a phrase usable as a metric label.
    """
    if len(body) > MAX_BYTES:
        raise MalformedMessageError("oversized")
    if properties.content_type != CONTENT_TYPE or properties.message_type != TYPE:
        raise MalformedMessageError("wrong type")
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise MalformedMessageError("not JSON") from error
    if not isinstance(fields, dict) or fields.get("kind") != "mail":
        raise MalformedMessageError("wrong fields")
    named = fields.get("id")
    try:
        mail_id = UUID(named)
    except (AttributeError, TypeError, ValueError) as error:
        raise MalformedMessageError("wrong id") from error
    # uuid.UUID accepts braces, URNs and other digits; we accept only the canonical form (RFC 9562, section 4).
    if str(mail_id) != named or properties.message_id != named:
        raise MalformedMessageError("wrong id")
    return mail_id


def traceparent(mail_id: UUID) -> str:
    """Return a `traceparent` (W3C Trace Context, level 1) for publishing a mail's id once.

    The mail was asked for by a request that was not traced. The trace id is the mail's id, so that all attempts of a
    mail are one trace. The parent id is random, and the flags are "not sampled".
    """
    parent = secrets.randbits(64) or 1  # all zeros is invalid
    return f"00-{mail_id.hex}-{parent:016x}-00"


def read_trace(properties: Basic.Properties) -> TraceContext | None:
    """Return the span that published a message; None if it was not recorded, or the header is not ours."""
    if not is_on():
        return None
    headers = properties.headers
    text = headers.get("traceparent") if isinstance(headers, dict) else None
    found = parse_traceparent(text) if isinstance(text, str) else None
    return found[0] if found is not None and found[1] else None
