"""Prometheus' promtool: the one that is installed, or Debian's, taken from its package without installing a server."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.tools.go_programs import find_cache


def find_promtool() -> str | None:
    """Return its path: what REGSVC_TEST_PROMTOOL names, what is installed, or what Debian's package has; else None."""
    given = os.environ.get("REGSVC_TEST_PROMTOOL") or shutil.which("promtool")
    if given is not None:
        return given
    kept = find_cache() / "promtool"
    if not kept.exists() and shutil.which("apt-get") and shutil.which("dpkg"):
        kept.parent.mkdir(parents=True, exist_ok=True)
        with kept.with_suffix(".lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not kept.exists():
                _unpack(kept)
    return str(kept) if kept.exists() else None


def _unpack(kept: Path) -> None:
    """Fetch the package and keep the one program; without a network there is none."""
    with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
        # As root a container's list of packages, often absent, is read anew.
        for command in ("apt-get download prometheus", "apt-get update && apt-get download prometheus"):
            done = subprocess.run(
                ["sh", "-c", command],
                cwd=folder,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=300,
                check=False,
            )
            if done.returncode == 0:
                break
        for package in Path(folder).glob("*.deb"):
            subprocess.run(["dpkg", "--extract", package, folder], timeout=120, check=False)
            program = Path(folder, "usr", "bin", "promtool")
            if program.exists():
                program.rename(kept)
