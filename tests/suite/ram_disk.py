"""Where the servers of the tests keep their data: on a RAM disk if there is one with room, for what is soon gone."""

from __future__ import annotations

import os
import re
from functools import cache
from pathlib import Path

RUN = "REGSVC_TEST_RUN"  # names the run that made a folder

_DISK = Path("/dev/shm")  # noqa: S108 - only private directories are made there
_ROOM = (
    2**30
)  # bytes that must be free on the disk; each worker's server takes some 150 MB, a few tests 300 MB
_MEMORY = 3 * 2**30  # bytes of memory that must be available, for what is on the disk and for everything else


@cache
def find_ram_disk() -> Path | None:
    """Return a RAM disk with enough room whose programs may be started, or None to use the usual place."""
    try:
        disk = os.statvfs(_DISK)
        memory = Path("/proc/meminfo").read_text()
    except OSError:
        return None
    available = re.search(r"^MemAvailable: +(\d+) kB$", memory, re.MULTILINE)
    fits = (
        os.access(_DISK, os.W_OK | os.X_OK)
        # As root, PostgreSQL's programs are copied beside its data; containers often mount this place noexec.
        and not disk.f_flag & os.ST_NOEXEC
        and disk.f_bavail * disk.f_frsize >= _ROOM
        and available is not None
        and int(available[1]) * 1024 >= _MEMORY
    )
    return _DISK if fits else None


def name_folder() -> str:
    """Return the beginning of the names of the folders that this run makes for its servers."""
    return f"regsvc-tests-{os.environ.get(RUN, '')}-"


def find_leftovers() -> list[Path]:
    """Return the folders that this run made on the RAM disk and did not remove."""
    return list(_DISK.glob(f"{name_folder()}*"))
