"""Waiting for what has no event: another process, a file, a row."""

from __future__ import annotations

from collections.abc import Callable

import trio

_EVERY = 0.02  # seconds between looks


async def wait_until(condition: Callable[[], object], *, seconds: float = 10) -> None:
    """Wait until a condition holds.

    Raises:
        trio.TooSlowError: it does not within so many seconds.
    """
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 - see above
            await trio.sleep(_EVERY)
