"""A log whose reader is slow, gone or a full disk stops nothing."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

import pytest

from regsvc.logs.writer import MOST_WAITING, Writer

LINE = "x" * 1000


def say_dropped(count: int) -> str:
    return f"dropped {count}"


@contextmanager
def pipe() -> Iterator[tuple[FileIO, Writer]]:
    """A pipe's reading end, and a writer at its other end."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stream, os.fdopen(reading, "rb", buffering=0) as reader:
        yield reader, Writer(stream, say_dropped)


def write_beyond(writer: Writer) -> int:
    """Write more than pipe and queue hold; return how many lines."""
    lines = MOST_WAITING // len(LINE) + 200
    for number in range(lines):
        writer.write(f"{number} {LINE}")
    return lines


def write_in_a_thread(writer: Writer) -> threading.Thread:
    thread = threading.Thread(target=write_beyond, args=[writer], daemon=True)
    thread.start()
    return thread


def test_a_line_that_fits_is_there_at_once() -> None:
    """Killing the process right after it has logged loses nothing."""
    with pipe() as (reader, writer):
        writer.write("first")
        assert reader.read(100) == b"first\n"


def test_nothing_waits_for_a_reader_that_does_not_read() -> None:
    with pipe() as (_, writer):
        thread = write_in_a_thread(writer)
        thread.join(20)
        assert not thread.is_alive()


def test_a_reader_that_comes_back_gets_whole_lines_in_order_and_learns_how_many_are_missing() -> None:
    with pipe() as (reader, writer):
        written = write_beyond(writer)
        found: list[bytes] = []

        def read() -> None:
            rest = b""
            while chunk := reader.read(65_536):
                *lines, rest = (rest + chunk).split(b"\n")
                found.extend(lines)

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        writer.drain(20)
        writer.write("last")
        writer.drain(20)
        os.dup2(os.open(os.devnull, os.O_WRONLY), writer._descriptor or 0)  # ends the pipe for its reader
        thread.join(20)
    dropped = sum(int(line.split()[1]) for line in found if line.startswith(b"dropped"))
    numbers = [int(line.split()[0]) for line in found if line.endswith(LINE.encode())]
    assert numbers == sorted(set(numbers))
    assert dropped > 0
    assert len(numbers) + dropped == written
    assert found[-1] == b"last"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_a_full_disk_ends_nothing() -> None:
    with open("/dev/full", "w") as stream:  # noqa: PTH123 - a device
        writer = Writer(stream, say_dropped)
        for _ in range(3):
            writer.write(LINE)


def test_a_reader_that_is_gone_ends_nothing() -> None:
    with pipe() as (reader, writer):
        reader.close()
        for _ in range(3):
            writer.write(LINE)
