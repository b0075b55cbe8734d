"""Standard streams that may be closed, full, without a reader, or in an old encoding."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

import click


def mend_streams() -> None:
    """Make standard input, output and error usable, however the process was started.

    A closed one is opened on the null device. Otherwise the next file or socket would get its number, and printed text
    would go there. Characters that an old terminal does not support are escaped.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - it stays open until the end
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def say(text: str) -> None:
    """Print a line of a service. A failure to print is ignored."""
    with suppress(OSError):
        click.echo(text)


def finish_streams() -> None:
    """Flush the standard streams, and drop those that fail: Python would exit with 120 for them."""
    for stream, descriptor in ((sys.stdout, 1), (sys.stderr, 2)):
        try:
            stream.flush()
        except (OSError, ValueError):
            with suppress(OSError):
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, descriptor)
                os.close(null)
