"""Programs that the tests need: installed where that is possible, else their tests are skipped, or fail in CI."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest


def install(config: pytest.Config, package: str) -> None:
    """Install one of Debian's packages as root; elsewhere do nothing. A failure shows in what is missing then.

    Another run of the suite, or another program that installs something, is waited for.
    """
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None:
        reporter.write_line(f"installing {package} …")
    # A container's list of packages is often old or absent.
    get = "apt-get -o DPkg::Lock::Timeout=600"
    command = f"{get} install -y --no-install-recommends {package}"
    with _alone(), _no_service_starts():
        subprocess.run(
            ["sh", "-c", f"{command} || {{ {get} update && {command}; }}"],
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=900,
            check=False,
        )


def is_offered(package: str) -> bool:
    """Return whether Debian's list here, however old, has a package."""
    if not shutil.which("apt-cache"):
        return False
    return subprocess.run(["apt-cache", "show", package], capture_output=True, check=False).returncode == 0


def do_without(reason: str) -> NoReturn:
    """Skip the test that needs what is missing; with CI=true fail it."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def _alone() -> Iterator[None]:
    """Hold what one process of the machine holds at a time."""
    with (Path(tempfile.gettempdir()) / "regsvc-tests-apt.lock").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _no_service_starts() -> Iterator[None]:
    """Keep packages from starting services while they are installed (Debian Policy, invoke-rc.d)."""
    policy = Path("/usr/sbin/policy-rc.d")
    if policy.exists():
        yield
        return
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    try:
        yield
    finally:
        policy.unlink()
