"""Log lines: readable on a terminal, JSON elsewhere, always without secrets.

Events are short phrases with fields: `structlog.get_logger().info("mail sending", mail=mail.id)`. What libraries log
through the standard library, from WARNING on, has the same form, with their logger's name as `source`. Values bound
with `structlog.contextvars.bind_contextvars(request_id=…)` are on every line of the request.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
import time
import traceback
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, TextIO

import structlog

from regsvc.logs.quick import QuickLines
from regsvc.logs.redaction import Redactor, client_prefix, mask_email, reveal
from regsvc.logs.writer import Writer
from regsvc.tracing.spans import get_trace_id

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from structlog.typing import EventDict, ExcInfo, Processor, WrappedLogger

__all__ = [
    "LogFormat",
    "LogLevel",
    "catch_strays",
    "client_prefix",
    "configure",
    "drain",
    "get_quick_lines",
    "mask_email",
    "reveal",
]

LogFormat = Literal["console", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
_COLOURS = {"debug": "2", "info": "32", "warning": "33", "error": "31", "critical": "1;31"}
_EVENT_WIDTH = 28
_writers: list[Writer] = []  # the current one, if configured
_quick: list[QuickLines] = []  # likewise, for JSON that is not to be quiet
_ID = re.compile(r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}")


def configure(
    *,
    format: LogFormat | None = None,  # noqa: A002 - the word for it
    level: LogLevel = "info",
    stream: TextIO | None = None,
    secrets: Iterable[str] = (),
) -> None:
    """Send all log lines of this process to one stream in one format.

    Args:
        format: `console` or `json`; None for `console` if the stream is a terminal, else `json`.
        level: lines below it are dropped; for libraries, at least WARNING.
        stream: destination of lines; standard error if None, so that standard output is free for results.
        secrets: texts to mask wherever they appear, in addition to those recognised (see `regsvc.logs.redaction`).
    """
    out = sys.stderr if stream is None else stream
    redactor = Redactor(secrets)
    console = out.isatty() if format is None else format == "console"
    processors: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        _with_trace,
        _with_exception,
        lambda _logger, level_name, event: {**redactor.event(event), "level": level_name},
        _Console(colours=out.isatty()) if console else _json,
    ]
    lines = _Lines(out, processors[-1])
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=lines,
    )
    _quick[:] = (
        [QuickLines(lines.writer, redactor)] if _LEVELS[level] <= _LEVELS["info"] and not console else []
    )
    logging.captureWarnings(capture=True)
    logging.basicConfig(
        handlers=[_FromStandardLibrary()], level=max(logging.WARNING, _LEVELS[level]), force=True
    )
    # It logs a traceback for each broken connection, which also raises in its user and is logged there.
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)


def get_quick_lines() -> QuickLines | None:
    """Return what writes frequent lines with the least work; None where they have to go the ordinary way."""
    return _quick[0] if _quick else None


def drain(seconds: float = 1.0) -> None:
    """Wait up to so many seconds until the stream has taken the waiting lines, before the process ends."""
    for writer in _writers:
        writer.drain(seconds)


def catch_strays() -> None:
    """Log uncaught errors, from the main thread, others, or a destructor, instead of printing them raw."""

    def stray(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
        if error is not None and not isinstance(error, KeyboardInterrupt):
            structlog.get_logger().critical("uncaught error", exc_info=(kind, error, trace))

    sys.excepthook = stray
    threading.excepthook = lambda args: stray(args.exc_type, args.exc_value, args.exc_traceback)
    sys.unraisablehook = lambda args: stray(args.exc_type, args.exc_value, args.exc_traceback)


class _Lines:
    """The file that structlog writes to. A failure to write never raises."""

    def __init__(self, stream: TextIO, render: Processor) -> None:
        def say_dropped(count: int) -> str:
            event = {"level": "warning", "event": "log lines dropped", "count": count}
            return str(render(None, "warning", event))

        self.writer = Writer(stream, say_dropped)
        _writers[:] = [self.writer]

    def __call__(self, *_args: object) -> _Lines:
        return self

    def msg(self, line: str) -> None:
        self.writer.write(line)

    debug = info = warning = error = critical = msg


class _FromStandardLibrary(logging.Handler):
    """Passes on what libraries log, at its own level."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except (TypeError, ValueError):  # arguments that do not fit the text
            message = str(record.msg)
        fields = {"source": record.name} | ({"exc_info": record.exc_info} if record.exc_info else {})
        structlog.get_logger().log(min(max(record.levelno // 10 * 10, 10), 50), message, **fields)


def _with_trace(_logger: WrappedLogger, _level: str, event: EventDict) -> EventDict:
    """Add the id of the current trace, if there is one."""
    trace_id = get_trace_id()
    if trace_id is not None:
        event.setdefault("trace_id", trace_id)
    return event


def _with_exception(_logger: WrappedLogger, _level: str, event: EventDict) -> EventDict:
    """Format an exception, before redaction sees it."""
    exc_info: ExcInfo | BaseException | bool | None = event.pop("exc_info", None)
    if exc_info:
        if isinstance(exc_info, BaseException):
            error: BaseException | None = exc_info
        else:
            error = exc_info[1] if isinstance(exc_info, tuple) else sys.exception()
        if error is not None:
            event["exception"] = "".join(traceback.format_exception(error)).rstrip()
    return event


def _json(_logger: WrappedLogger, _level: str, event: EventDict) -> str:
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return json.dumps({"timestamp": now, "level": event.pop("level"), "event": event.pop("event"), **event})


class _Console:
    """`12:34:56 info     mail sending                 mail=4f1c88a0`, an exception on the lines below.

    Ids are cut to eight characters, enough to tell them apart on a screen.
    """

    def __init__(self, *, colours: bool) -> None:
        self._colours = colours

    def __call__(self, _logger: WrappedLogger, level: str, event: EventDict) -> str:
        del event["level"]
        exception = event.pop("exception", None)
        phrase = _printable(str(event.pop("event"))).ljust(_EVENT_WIDTH if event else 0)
        fields = " ".join(f"{self._paint('2', f'{key}=')}{_shown(value)}" for key, value in event.items())
        line = " ".join(
            filter(
                None,
                (
                    self._paint("2", time.strftime("%H:%M:%S")),
                    self._paint(_COLOURS[level], level.ljust(8)),
                    self._paint("1", phrase),
                    fields,
                ),
            )
        )
        return f"{line}\n{_printable(exception, keep=chr(10))}" if exception else line

    def _paint(self, colour: str, text: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._colours else text


def _shown(value: object) -> str:
    text = _printable(str(value))
    if _ID.fullmatch(text):
        return text[:8]
    return f'"{text}"' if " " in text or not text else text


def _printable(text: str, keep: str = "") -> str:
    """Escape characters that would move the cursor or forge a line."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in keep else f"\\x{ord(char):02x}" for char in text)
