"""Write log lines without ever stopping the service for a slow or missing reader, or a full disk.

A line is written at once unless that would block, so that a killed process has lost nothing. Otherwise it waits in a
bounded queue for a thread; when the queue is full, lines are dropped and counted.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TextIO

from regsvc.metrics import LOG_LINES_DROPPED

MOST_WAITING = 4 * 1024 * 1024  # bytes
_ATOMIC = 4096  # bytes; what POLLOUT promises of a pipe (pipe(7), PIPE_BUF)
_SILENCE = 1.0  # seconds before the next attempt after a failed write


class Writer:
    """Writes lines to a stream from any thread, without ever waiting for its reader.

    Args:
        stream: destination. One without a file descriptor is written to directly.
        say_dropped: makes a line from the number of dropped lines.
    """

    def __init__(self, stream: TextIO, say_dropped: Callable[[int], str]) -> None:
        self._stream = stream
        self._say_dropped = say_dropped
        self._lock = threading.Lock()
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        self._dropped = 0
        self._thread: threading.Thread | None = None
        self._drained = threading.Event()
        self._drained.set()
        try:
            self._descriptor: int | None = stream.fileno()
        except (OSError, ValueError, AttributeError):
            self._descriptor = None
        self._encoding = getattr(stream, "encoding", None) or "utf-8"
        self._poll = select.poll()
        if self._descriptor is not None:
            self._poll.register(self._descriptor, select.POLLOUT)

    def write(self, line: str) -> None:
        """Write, queue or drop a line. Never raises and never blocks."""
        if self._descriptor is None:
            with self._lock, suppress(OSError, ValueError):
                self._stream.write(f"{line}\n")
                self._stream.flush()
            return
        data = f"{line}\n".encode(self._encoding, "backslashreplace")
        with self._lock:
            if not self._waiting and len(data) <= _ATOMIC and self._is_ready():
                try:
                    os.write(self._descriptor, data)
                except BlockingIOError:
                    pass  # another process may have made the pipe non-blocking; let the thread wait
                except OSError:
                    return  # a full disk, or a missing reader
                else:
                    return
            if self._bytes + len(data) > MOST_WAITING:
                self._dropped += 1
                LOG_LINES_DROPPED.inc()
                return
            self._waiting.append(data)
            self._bytes += len(data)
            self._drained.clear()
            if self._thread is None:
                self._thread = threading.Thread(target=self._write_waiting, name="log writer", daemon=True)
                self._thread.start()

    def drain(self, seconds: float) -> None:
        """Wait up to so many seconds until the queued lines are written."""
        self._drained.wait(seconds)

    def _is_ready(self) -> bool:
        try:
            return bool(self._poll.poll(0))
        except OSError:
            return True

    def _write_waiting(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._thread = None
                    self._drained.set()
                    return
                data = self._waiting[0]
                if self._dropped:
                    data += f"{self._say_dropped(self._dropped)}\n".encode()
                    self._dropped = 0
            try:
                _write_whole(self._descriptor or 0, data)
            except OSError:
                time.sleep(_SILENCE)
            with self._lock:
                self._bytes -= len(self._waiting.popleft())


def _write_whole(descriptor: int, data: bytes) -> None:
    while data:
        try:
            data = data[os.write(descriptor, data) :]
        except BlockingIOError:
            select.select([], [descriptor], [])
