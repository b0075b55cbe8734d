"""A place in a long list that is shown page by page."""

from __future__ import annotations

import base64
import struct
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self
from uuid import UUID

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_POSITION = struct.Struct(">q16s")


@dataclass(frozen=True)
class Position:
    """Right behind one item of a list by age, and so where it is whatever is added."""

    created_at: datetime
    id: UUID

    def encode(self) -> str:
        """Return the place as 32 characters for a URL."""
        microseconds = (self.created_at - _EPOCH) // _MICROSECOND
        return base64.urlsafe_b64encode(_POSITION.pack(microseconds, self.id.bytes)).decode("ascii")

    @classmethod
    def decode(cls, text: str) -> Self:
        """Return the place that `encode` made a text of.

        Raises:
            ValueError: it did not.
        """
        try:
            microseconds, raw = _POSITION.unpack(base64.b64decode(text, altchars=b"-_", validate=True))
            return cls(_EPOCH + microseconds * _MICROSECOND, UUID(bytes=raw))
        except (struct.error, ValueError, OverflowError):
            raise ValueError("no cursor of this list") from None
