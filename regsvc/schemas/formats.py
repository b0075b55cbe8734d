"""How values are written in JSON: times, ids, and the smallest bodies."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, overload

from pydantic import Field

from regsvc.schemas.typed_dict import TypedDict


@overload
def timestamp(moment: datetime) -> str: ...


@overload
def timestamp(moment: None) -> None: ...


@overload
def timestamp(moment: datetime | None) -> str | None: ...


def timestamp(moment: datetime | None) -> str | None:
    """Return a time as RFC 3339 text in UTC with milliseconds, or None."""
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


Timestamp = Annotated[str, Field(description="RFC 3339, in UTC.", json_schema_extra={"format": "date-time"})]


Id = Annotated[str, Field(json_schema_extra={"format": "uuid"})]


class Message(TypedDict):
    """It is done."""

    message: str


class Nothing(TypedDict):
    """It is done; there is no body."""


class Text(TypedDict):
    """Plain text."""
