"""How many processors this process may use, and being polite about it."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import threading
from pathlib import Path

_LOWEST_PRIORITY = 19
_CGROUP = Path("/sys/fs/cgroup")


def usable_cores() -> float:
    """Return the processors that this process may use: those it may run on, within the quota of its container.

    A quota of half a processor is 0.5. On a large machine it is the quota that counts: more threads than that have the
    kernel stop the whole process, event loop included, for most of each period.
    """
    cores = float(len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1)
    quota = read_quota(_CGROUP)
    return cores if quota is None else min(cores, quota)


def hashing_threads() -> int:
    """Return how many threads to hash in: as many as there are whole processors to use, and one at least."""
    return max(1, math.floor(usable_cores()))


def read_quota(cgroup: Path) -> float | None:
    """Return the processors that a control group allows, of version 2 or 1; None if it sets no limit."""
    try:
        quota, period = (cgroup / "cpu.max").read_text("ascii").split()
    except (OSError, ValueError):
        try:
            quota = (cgroup / "cpu" / "cpu.cfs_quota_us").read_text("ascii").strip()
            period = (cgroup / "cpu" / "cpu.cfs_period_us").read_text("ascii").strip()
        except (OSError, ValueError):
            return None
    try:
        allowed = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):  # `max`: no limit
        return None
    return allowed if allowed > 0 else None


def lower_own_priority() -> None:
    """Let everything else go first, where the system gives every thread a priority of its own (Linux)."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # a sandbox that forbids it; the lane works, less politely
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOWEST_PRIORITY)
