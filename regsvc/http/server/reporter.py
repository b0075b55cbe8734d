"""Report events to hooks, where Hypercorn would write a log."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any, Final, TypeVar

import structlog

from regsvc.http.server.events import ApplicationFailed, Event, RequestLine
from regsvc.logs import client_prefix

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

log = structlog.get_logger()
SWITCHED: Final = 101
METHOD_CHARACTERS: Final = 20
_PATH_CHARACTERS = 200
_PATH_END = re.compile(rb"[?#]|%(?:25)*23")
T = TypeVar("T")


class Reporter:
    """Calls hooks; one that raises ends nothing. To Hypercorn's lifespan it is a logger.

    Args:
        on_request: told of every request.
        on_event: told of what happens to the server.
    """

    def __init__(
        self, on_request: Callable[[RequestLine], None] | None, on_event: Callable[[Event], None]
    ) -> None:
        self._on_request = on_request
        self._on_event = on_event

    def request(self, line: RequestLine) -> None:
        """Report a request."""
        if self._on_request is not None:
            _call(self._on_request, line)

    def event(self, event: Event) -> None:
        """Report an event of the server."""
        _call(self._on_event, event)

    async def exception(self, message: str, *args: Any, **kwargs: Any) -> None:  # noqa: ARG002 - not ours
        """Report an error in the application's lifespan; called by Hypercorn."""
        error = sys.exception()
        if error is not None:
            self.event(ApplicationFailed(error, request_id=""))

    async def warning(self, message: str, *args: Any, **kwargs: Any) -> None:  # noqa: ARG002 - not ours
        """Report an error at the application's start; called by Hypercorn."""
        await self.exception(message)


def bare(error: BaseException) -> BaseException:
    """Return the error that a group consists of, or the group if there are several."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def told_path(target: bytes) -> str:
    """Return what may be told of a target: its path, cut to a length that fits a line.

    Mail programs that escape the `#` of a link make its token a part of the path.
    """
    if not target.startswith(b"/"):
        return ""  # a URI may name a user and a password
    return _PATH_END.split(target, maxsplit=1)[0][:_PATH_CHARACTERS].decode("ascii")


def request_line(
    scope: Mapping[str, Any], status: int | None, seconds: float, *, close_code: int | None = None
) -> RequestLine:
    """Return the line of a request.

    The client is who is at the other end of the connection, unless the application knows better (a proxy) and
    left it in `scope["state"]["client_prefix"]`.
    """
    state = scope["state"]
    return RequestLine(
        kind=scope["type"],
        method=scope["method"][:METHOD_CHARACTERS] if scope["type"] == "http" else "GET",
        path=told_path(scope["raw_path"]),
        status=status,
        milliseconds=seconds * 1000,
        request_id=state["request_id"],
        client=state.get("client_prefix") or client_prefix(scope["client"][0] if scope["client"] else ""),
        close_code=close_code,
        trace_id=state.get("trace_id"),
    )


def _call(hook: Callable[[T], None], value: T) -> None:
    try:
        hook(value)
    except Exception:
        log.exception("hook failed")
