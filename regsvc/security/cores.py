"""The processors that this process may use, and which of its threads come first.

The event loop works for a millisecond at a time and must get its turn at once; hashing works for a quarter of a second
and may wait. Two things say so to Linux. The niceness decides who gets how much of a core that others want, too: at 5,
a hashing thread gets a quarter of it, where an ordinary one would get half; at 19 it would get a thirtieth and starve
beside anything else in the same container. The slice decides whose turn is next (EEVDF, Linux 6.12; older kernels
ignore it): a thread with a short slice need not wait until one with a long slice has used it up.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import struct
import sys
import threading
from pathlib import Path

NICE = 5  # of hashing threads, more than the process has
# The scheduler's slices, in nanoseconds, within Linux's limits of 0.1 and 100 ms; the usual one is about 3 ms.
_SHORT_SLICE, _LONG_SLICE = 100_000, 100_000_000
_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}  # number of the system call, which Python has no name for
_ATTRIBUTES = "=IIQiIQQQ"
_RESET_ON_FORK = 0x01
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
    """Let others come before this thread, where threads have a priority of their own (Linux)."""
    if sys.platform == "linux":
        thread = threading.get_native_id()
        with contextlib.suppress(OSError):  # a sandbox forbids it; the lane works with normal priority
            os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + NICE)
        _set_own_slice(_LONG_SLICE)


def hurry_own_turns() -> None:
    """Let this thread have its turns as soon as it has something to do; what it starts has ordinary ones."""
    if sys.platform == "linux":
        _set_own_slice(_SHORT_SLICE)


def _set_own_slice(nanoseconds: int) -> None:
    """Set the scheduler's slice of this thread, on machines and kernels that know it."""
    number = _SCHED_SETATTR.get(os.uname().machine)
    if number is None or os.sched_getscheduler(0) != os.SCHED_OTHER:  # the operator chose another policy
        return
    nice = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    # struct sched_attr: size, policy, flags, nice, priority, runtime (here the slice), deadline, period
    attributes = struct.pack(_ATTRIBUTES, 48, os.SCHED_OTHER, _RESET_ON_FORK, nice, 0, nanoseconds, 0, 0)
    # What it returns is ignored: where a sandbox forbids it, turns are as they were.
    ctypes.CDLL(None).syscall(number, 0, attributes, 0)
