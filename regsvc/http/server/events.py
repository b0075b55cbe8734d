"""What the HTTP server tells of itself: frozen data to a hook, and the subscribers that log it.

Neither query strings nor headers nor bodies are ever told: tokens travel in them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import structlog

from regsvc.processes.listeners import show_address

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class RequestLine:
    """One request and what became of it; a websocket has one line, at its end.

    Args:
        kind: how long a websocket was open says nothing about how fast requests are answered.
        method: empty when no request could be read.
        path: without its query string, percent-encoded as it came, cut at 200 characters.
        status: of the answer; None if the client left before it was whole.
        milliseconds: from the whole request to the end of its answer or its websocket.
        request_id: of this request alone.
        client: network of the client, too coarse to name a household.
        close_code: of the websocket (RFC 6455 section 7.4).
        trace_id: of its trace, if it is traced.
    """

    kind: Literal["http", "websocket"]
    method: str
    path: str
    status: int | None
    milliseconds: float
    request_id: str
    client: str
    close_code: int | None = None
    trace_id: str | None = None


@dataclass(frozen=True, slots=True)
class Listening:
    """The server takes connections at these addresses."""

    addresses: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class ApplicationFailed:
    """The application raised an error instead of answering; without a request id, at its start or end."""

    error: BaseException
    request_id: str


@dataclass(frozen=True, slots=True)
class ConnectionFailed:
    """An error stopped at the barrier around its connection; it is a bug of ours. `caught` counts them."""

    error: BaseException
    caught: int


@dataclass(frozen=True, slots=True)
class DrainStarted:
    """No new connections are taken; what is in flight on these many finishes."""

    connections: int


@dataclass(frozen=True, slots=True)
class DrainFinished:
    """Every connection is gone; so many were cut off because the grace was over."""

    cut: int


Event = Listening | ApplicationFailed | ConnectionFailed | DrainStarted | DrainFinished


def log_event(event: Event) -> None:
    """Log what happened to the server itself."""
    match event:
        case Listening(addresses):
            log.info("http listening", addresses=[show_address(host, port) for host, port in addresses])
        case ApplicationFailed(error, request_id):
            log.error("application failed", exc_info=error, request_id=request_id)
        case ConnectionFailed(error, caught):
            log.error("connection failed", exc_info=error, caught=caught)
        case DrainStarted(connections):
            log.info("http draining", connections=connections)
        case DrainFinished(cut):
            log.info("http drained", cut=cut)
