"""Standard streams that may be closed, full, without a reader, or of an old encoding."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

import click


def mend_streams() -> None:
    """Make standard input, output and error usable, whatever the process was started with.

    A closed one leads to the null device: the next file or socket that is opened would take its number, and what is
    printed would go there. Characters that an old terminal does not know are escaped.
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
    """Print a line of a service, which goes on where the line cannot be written."""
    with suppress(OSError):
        click.echo(text)


def finish_streams() -> None:
    """Flush the standard streams, and let go of those that cannot be: Python would end with 120 for them."""
    for stream, descriptor in ((sys.stdout, 1), (sys.stderr, 2)):
        try:
            stream.flush()
        except (OSError, ValueError):
            with suppress(OSError):
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, descriptor)
                os.close(null)
