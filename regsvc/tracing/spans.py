"""Spans of what this process does; none while tracing is off or the current request is not traced.

A span is current in its task and in tasks started from there. Its attributes never have an address, a token, a code, a
path with ids, or what a mail server said in words.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from regsvc.tracing.trace_context import TraceContext, parse_traceparent

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from regsvc.tracing.sampling import Sampling

Kind: TypeAlias = Literal["internal", "server", "client", "producer", "consumer"]
Attributes: TypeAlias = "Mapping[str, str | int | float | bool]"

_NONE: Attributes = {}


class Span(Protocol):
    """A span that is recorded."""

    @property
    def context(self) -> TraceContext:
        """Return what identifies it."""

    @property
    def recording(self) -> bool:
        """Return whether it has not ended."""

    def name(self, name: str) -> None:
        """Give it another name."""

    def note(self, attributes: Attributes) -> None:
        """Add attributes."""

    def link(self, context: TraceContext) -> None:
        """Add a link to another span."""

    def fail(self) -> None:
        """Mark it as failed."""

    def end(self, seconds_ago: float = 0.0) -> None:
        """End it, `seconds_ago` or now."""


class Recorder(Protocol):
    """Begins spans, and sends them to a collector once they have ended."""

    def begin(
        self,
        name: str,
        kind: Kind,
        *,
        parent: TraceContext | None,
        links: Sequence[TraceContext],
        attributes: Attributes,
        seconds_ago: float = 0.0,
    ) -> Span:
        """Begin a span, `seconds_ago` or now."""


_recorders: list[tuple[Recorder, Sampling]] = []  # none while tracing is off
_current: ContextVar[Span | None] = ContextVar("span", default=None)


@contextmanager
def recording(recorder: Recorder, sampling: Sampling) -> Iterator[None]:
    """Trace what begins within the block."""
    _recorders[:] = [(recorder, sampling)]
    try:
        yield
    finally:
        _recorders.clear()


def is_on() -> bool:
    """Return whether tracing is on."""
    return bool(_recorders)


def get_span() -> Span | None:
    """Return the current span; None if there is none, or if it has ended."""
    span = _current.get()
    return span if span is not None and span.recording else None


def get_trace_id() -> str | None:
    """Return the id of the current trace as logs and collectors show it, or None."""
    span = _current.get()
    return None if span is None or not span.recording else f"{span.context.trace_id:032x}"


@contextmanager
def entered(span: Span) -> Iterator[Span]:
    """Make a span the current one for the duration of the block, and end it then."""
    token = _current.set(span)
    try:
        yield span
    except Exception:
        span.fail()
        raise
    finally:
        _current.reset(token)
        span.end()


def begin_request(traceparents: Sequence[str]) -> Span | None:
    """Begin the span of a request, or return None if it is not traced.

    Args:
        traceparents: the headers of this name. Several, or an invalid one, count as none.
    """
    if not _recorders:
        return None
    recorder, sampling = _recorders[0]
    found = parse_traceparent(traceparents[0].strip()) if len(traceparents) == 1 else None
    if not sampling.takes(flag=None if found is None else found[1]):
        return None
    return recorder.begin(
        "request", "server", parent=None if found is None else found[0], links=(), attributes=_NONE
    )


def begin_span(
    name: str,
    kind: Kind,
    *,
    parent: TraceContext | None = None,
    links: Sequence[TraceContext | None] = (),
    attributes: Attributes = _NONE,
) -> Span | None:
    """Begin a span for a row that was written in a traced request. Without parent and links return None.

    Args:
        name: of the span.
        kind: of the span.
        parent: span that it is part of; None: a trace of its own.
        links: spans that it follows from.
        attributes: of the span.
    """
    known = [link for link in links if link is not None]
    if not _recorders or (parent is None and not known):
        return None
    return _recorders[0][0].begin(name, kind, parent=parent, links=known, attributes=attributes)


def follow(name: str, context: TraceContext | None) -> None:
    """Note that something follows from a recorded span: by a link of the current span, or by a span of its own.

    Args:
        name: of the span, if there is none.
        context: what it follows from; None: nothing that was recorded.
    """
    span = get_span()
    if context is None:
        return
    if span is not None:
        span.link(context)
    elif (alone := begin_span(name, "internal", links=(context,))) is not None:
        alone.end()


def record(
    name: str,
    seconds: float,
    *,
    seconds_ago: float = 0.0,
    kind: Kind = "internal",
    failed: bool = False,
    attributes: Attributes = _NONE,
) -> None:
    """Record what has ended as a part of the current span, if there is one.

    Args:
        name: of the part.
        seconds: that it took.
        seconds_ago: when it ended.
        kind: of the part.
        failed: whether it failed.
        attributes: of the part.
    """
    span = _current.get()
    if span is None or not _recorders or not span.recording:
        return
    part = _recorders[0][0].begin(
        name,
        kind,
        parent=span.context,
        links=(),
        attributes=attributes,
        seconds_ago=seconds_ago + seconds,
    )
    if failed:
        part.fail()
    part.end(seconds_ago)


class Stopwatch:
    """Seconds since it was made or read last."""

    __slots__ = ("_since",)

    def __init__(self) -> None:
        self._since = time.perf_counter()

    def restart(self) -> None:
        """Begin at zero again."""
        self._since = time.perf_counter()

    def lap(self) -> float:
        """Return the seconds, and begin at zero again."""
        now = time.perf_counter()
        seconds, self._since = now - self._since, now
        return seconds
