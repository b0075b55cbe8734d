"""The processors that this process may use, and the priority of its threads."""

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
    """Return the number of processors that this process may use: its affinity, within its container's quota.

    A quota of half a processor is 0.5. On a large machine the quota counts: with more threads than that, the kernel
    stops the whole process, event loop included, for most of each period.
    """
    cores = float(len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1)
    quota = read_quota(_CGROUP)
    return cores if quota is None else min(cores, quota)


def hashing_threads(processes: int = 1) -> int:
    """Return the number of hashing threads: one per whole processor, and at least one.

    Args:
        processes: that share the processors.
    """
    return max(1, math.floor(usable_cores() / processes))


def read_quota(cgroup: Path) -> float | None:
    """Return the processors that a control group (version 2 or 1) allows; None if it sets no limit."""
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
    """Give this thread the lowest priority, where threads have their own (Linux)."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # a sandbox forbids it; the lane works with normal priority
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOWEST_PRIORITY)
