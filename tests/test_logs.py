"""Log lines are pleasant on a terminal, JSON elsewhere, and hold no secret in either."""

from __future__ import annotations

import io
import json
import logging
import re
import subprocess
import sys
import uuid
import warnings
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from regsvc import logs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regsvc.logs import LogFormat


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """Leaves the logging of other tests as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    logging.captureWarnings(capture=False)
    root.handlers[:] = handlers
    root.setLevel(level)


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """It does so always."""
        return True


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_json_line_has_its_time_level_event_and_fields() -> None:
    out = io.StringIO()
    logs.configure(stream=out)
    structlog.contextvars.bind_contextvars(request_id="r-1")
    structlog.get_logger().info("mail sending", mail=7, to="test@example.com")
    (line,) = lines(out)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("timestamp"))
    assert line == {
        "level": "info",
        "event": "mail sending",
        "request_id": "r-1",
        "mail": 7,
        "to": "t***@example.com",
    }


def test_a_terminal_gets_short_lines_in_colour() -> None:
    out = Terminal()
    logs.configure(stream=out)
    structlog.get_logger().warning("child restarted", name="mailer", why="two words")
    line = out.getvalue()
    assert "\x1b[33mwarning " in line
    assert re.fullmatch(
        r'\d\d:\d\d:\d\d warning  child restarted {14}name=mailer why="two words"\n',
        re.sub(r"\x1b\[[\d;]*m", "", line),
    )


def test_ids_are_short_on_a_terminal_and_whole_elsewhere() -> None:
    screen, pipe, mail = Terminal(), io.StringIO(), uuid.uuid4()
    for out in (screen, pipe):
        logs.configure(stream=out)
        structlog.get_logger().info("mail sending", mail=mail, request_id=mail.hex)
    assert screen.getvalue().count(str(mail)[:8]) == 2
    assert str(mail)[:13] not in screen.getvalue()
    assert lines(pipe)[0]["mail"] == str(mail)


def test_no_colours_where_there_is_no_terminal() -> None:
    out = io.StringIO()
    logs.configure(format="console", stream=out)
    structlog.get_logger().info("listening")
    assert re.fullmatch(r"\d\d:\d\d:\d\d info     listening\n", out.getvalue())


@pytest.mark.parametrize("form", ["console", "json"])
def test_nobody_can_forge_a_line_or_move_the_cursor(form: LogFormat) -> None:
    out = io.StringIO()
    logs.configure(format=form, stream=out)
    structlog.get_logger().info("a\nb", name="x\r\n12:00:00 info forged", colour="\x1b[2J\x9b2J\u2028")
    assert out.getvalue().count("\n") == 1
    assert out.getvalue()[:-1].isprintable()


@pytest.mark.parametrize("form", ["console", "json"])
def test_an_exception_is_written_out_without_its_secrets(form: LogFormat) -> None:
    out = io.StringIO()
    logs.configure(format=form, stream=out, secrets=["correct-horse"])
    error = ExceptionGroup("several", [ValueError("password=hunter3"), KeyError("correct-horse")])
    error.__cause__ = OSError("cannot reach amqp://user:hunter2@rabbitmq/ for test@example.com")
    structlog.get_logger().error("child failed", exc_info=error)
    text = out.getvalue()
    for secret in ("hunter2", "hunter3", "correct-horse", "test@example.com"):
        assert secret not in text
    assert "ExceptionGroup: several (2 sub-exceptions)" in text
    assert "t***@example.com" in text
    assert len(text.splitlines()) == 1 or form == "console"


def test_lines_below_the_level_are_dropped() -> None:
    out = io.StringIO()
    logs.configure(level="warning", stream=out)
    structlog.get_logger().info("unimportant")
    structlog.get_logger().error("important")
    assert [line["event"] for line in lines(out)] == ["important"]


def test_libraries_come_out_the_same_way_from_warning_on() -> None:
    out = io.StringIO()
    logs.configure(stream=out)
    logging.getLogger("hypercorn.connection").info("chatter")
    logging.getLogger("hypercorn.connection").warning("lost %s", "amqp://guest:guest@rabbitmq/")
    logging.getLogger("hypercorn").critical("odd %d", "no number")
    logging.getLogger("odd").log(35, "own level", exc_info=ValueError("for a@b.c"))
    first, second, third = lines(out)
    assert (first["level"], first["event"], first["source"]) == (
        "warning",
        "lost amqp://***@rabbitmq/",
        "hypercorn.connection",
    )
    assert (second["level"], second["event"]) == ("critical", "odd %d")
    assert third["exception"] == "ValueError: for a***@b.c"


def test_warnings_of_python_come_out_the_same_way() -> None:
    out = io.StringIO()
    logs.configure(stream=out)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=False)
        logging.captureWarnings(capture=True)
        warnings.warn("soon gone", DeprecationWarning, stacklevel=1)
        logging.captureWarnings(capture=False)
    (line,) = lines(out)
    assert line["source"] == "py.warnings"
    assert "soon gone" in line["event"]


def test_a_log_that_cannot_be_written_ends_nothing() -> None:
    out = io.StringIO()
    logs.configure(stream=out)
    out.close()
    structlog.get_logger().error("into the void")


def test_a_field_may_have_any_name_and_any_text() -> None:
    out = io.StringIO()
    logs.configure(stream=out)
    structlog.get_logger().info(
        "x", level="mine", timestamp="never", text="\udc80", exception="e", source=None
    )
    (line,) = lines(out)
    assert line["level"] == "info"
    assert line["text"] == "\udc80"


def test_what_nobody_caught_is_logged_without_its_secrets() -> None:
    code = """
import threading
from regsvc import logs
logs.configure()
logs.catch_strays()
def fail(): raise ValueError("token=abc for test@example.com")
class Odd:
    def __del__(self): fail()
thread = threading.Thread(target=fail)
thread.start(); thread.join()
odd = Odd(); del odd
fail()
"""
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert run.returncode == 1
    written = [json.loads(line) for line in run.stderr.splitlines()]
    assert [(line["level"], line["event"]) for line in written] == [("critical", "uncaught error")] * 3
    assert all(line["exception"].endswith("ValueError: token=*** for t***@example.com") for line in written)
