"""The context of a span: what identifies it in other processes (W3C Trace Context, https://www.w3.org/TR/trace-context/)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_FORM: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED: Final = 1
_STORED_BYTES: Final = 24


@dataclass(frozen=True, slots=True)
class TraceContext:
    """The ids of a trace and of one span in it, both above zero."""

    trace_id: int
    span_id: int

    @property
    def stored(self) -> bytes:
        """The 24 bytes that are kept with a row. Only recorded spans are kept, so they need no flags."""
        return self.trace_id.to_bytes(16, "big") + self.span_id.to_bytes(8, "big")

    @property
    def header(self) -> str:
        """The header `traceparent` of a recorded span."""
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-01"


def read_stored(stored: bytes | None) -> TraceContext | None:
    """Return the context in the bytes of a row, or None if there is none."""
    if stored is None or len(stored) != _STORED_BYTES:
        return None
    return TraceContext(int.from_bytes(stored[:16], "big"), int.from_bytes(stored[16:], "big"))


def parse_traceparent(text: str) -> tuple[TraceContext, bool] | None:
    """Return the context in a header `traceparent` and whether its sender recorded it, or None if it is invalid.

    As W3C Trace Context, 3.2 says: version ff and ids of zeros are invalid, and a later version may add fields behind a
    dash. Capital letters are invalid.
    """
    found = _FORM.fullmatch(text)
    if found is None or found[1] == "ff" or (found[1] == "00" and found[5]):
        return None
    context = TraceContext(int(found[2], 16), int(found[3], 16))
    if not context.trace_id or not context.span_id:
        return None
    return context, bool(int(found[4], 16) & _SAMPLED)
