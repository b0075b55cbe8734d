"""Signals that end the program."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import structlog
import trio

from regsvc import logs

log = structlog.get_logger()


async def heed_signals(
    stopping: trio.Event,
    *,
    at_once: Callable[[], None] = lambda: None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Set `stopping` at the first SIGINT or SIGTERM; exit at once at the second.

    SIGHUP, sent when a terminal closes, counts as well, unless `nohup` ignores it.

    Args:
        stopping: set to stop everything.
        at_once: called before the process exits at once.
        task_status: started once signals are handled.
    """
    heeded = {signal.SIGINT, signal.SIGTERM}
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        heeded.add(signal.SIGHUP)
    with trio.open_signal_receiver(*heeded) as signals:
        task_status.started()
        async for number in signals:
            name = signal.Signals(number).name
            if stopping.is_set():
                log.warning("ending at once", signal=name)
                at_once()
                logs.drain(0.2)
                os._exit(1)
            log.info("stopping", signal=name)
            stopping.set()
