"""Pages of a long list, newest first, by keyset cursor: stable while rows are added."""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Generic, Protocol, Self, TypeVar
from uuid import UUID

MAX_PAGE = 200  # rows

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_POSITION = struct.Struct(">q16s")


class Aged(Protocol):
    """A row with an id and a time of creation."""

    @property
    def id(self) -> UUID:
        """Return the row's id."""

    @property
    def created_at(self) -> datetime:
        """Return the row's time of creation."""


Row = TypeVar("Row")
AgedRow = TypeVar("AgedRow", bound=Aged)


@dataclass(frozen=True)
class Page(Generic[Row]):
    """A page of a list.

    Args:
        rows: rows, newest first.
        next_cursor: cursor of the next page; None on the last.
    """

    rows: Sequence[Row]
    next_cursor: str | None


@dataclass(frozen=True)
class Position:
    """Keyset cursor after (created_at, id)."""

    created_at: datetime
    id: UUID

    def encode(self) -> str:
        """Return the cursor as 32 characters for a URL."""
        microseconds = (self.created_at - _EPOCH) // _MICROSECOND
        return base64.urlsafe_b64encode(_POSITION.pack(microseconds, self.id.bytes)).decode("ascii")

    @classmethod
    def decode(cls, text: str) -> Self:
        """Parse a cursor written by `encode`.

        Raises:
            ValueError: the text is not such a cursor.
        """
        try:
            microseconds, raw = _POSITION.unpack(base64.b64decode(text, altchars=b"-_", validate=True))
            return cls(_EPOCH + microseconds * _MICROSECOND, UUID(bytes=raw))
        except (struct.error, ValueError, OverflowError):
            raise ValueError("not a cursor of this list") from None


def rows_to_read(limit: int) -> int:
    """Return how many rows to read for a page: one more than `limit`, to detect a next page."""
    return min(limit, MAX_PAGE) + 1


def cut_page(found: Sequence[Row], limit: int, encode: Callable[[Row], str]) -> Page[Row]:
    """Return the first page of at most `rows_to_read(limit)` rows.

    Args:
        found: the rows read.
        limit: rows per page.
        encode: returns the cursor after a row.
    """
    rows = found[: min(limit, MAX_PAGE)]
    return Page(rows, encode(rows[-1]) if len(found) > len(rows) else None)


def after_row(row: Aged) -> str:
    """Return the cursor after a row by age."""
    return Position(row.created_at, row.id).encode()
