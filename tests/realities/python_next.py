"""The newest Python that Debian has, in a folder of its own: `make run` works there, and what the suite asks holds."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import IO

import pytest

from tests.suite.ports import take_port

pytestmark = pytest.mark.timeout(3600)

CHECKOUT = Path(__file__).parents[2]
ROOT = CHECKOUT / "build" / "debian-next"
SUITE = "forky"
# What this machine needs to reach the package index.
NETWORK = ("etc/ssl/certs/ca-certificates.crt", "etc/pip.conf", "etc/resolv.conf")
PACKAGES = "ca-certificates,git,make,procps,python3-venv"
TESTS = os.environ.get("REALITIES_TESTS", "tests/rabbitmq tests/postgres tests/mail tests/flows")
INSIDE = "mount -t proc proc /proc; mount -t tmpfs tmpfs /dev/shm; cd /srv/regsvc; exec "


def enter(command: str, **environ: str) -> subprocess.Popen[str]:
    """Run a command in that Debian, its mounts seen by nobody else."""
    return subprocess.Popen(
        ["unshare", "--mount", "chroot", ROOT, "sh", "-c", INSIDE + command],
        env={**os.environ, "LANG": "C.UTF-8", "PIP_FIND_LINKS": "", **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def output_of(process: subprocess.Popen[str]) -> IO[str]:
    """Return what a process prints."""
    assert process.stdout is not None
    return process.stdout


@pytest.fixture(scope="module", autouse=True)
def _root() -> None:
    """Make the folder the first time, and put what is committed there."""
    if os.geteuid() or not shutil.which("debootstrap"):
        pytest.skip("needs debootstrap, as root")
    if not (ROOT / "usr/bin/python3").exists():
        shutil.rmtree(ROOT, ignore_errors=True)
        script = "/usr/share/debootstrap/scripts/sid"  # an older debootstrap does not know the suite
        options = ["--variant=minbase", f"--include={PACKAGES}"]
        subprocess.run(["debootstrap", *options, SUITE, ROOT, "", script], check=True)
        (ROOT / "usr/sbin/policy-rc.d").write_text("#!/bin/sh\nexit 101\n")
        (ROOT / "usr/sbin/policy-rc.d").chmod(0o755)
    for name in NETWORK:
        if Path("/", name).exists():
            shutil.copy(Path("/", name), ROOT / name)
    target = ROOT / "srv/regsvc"
    target.mkdir(parents=True, exist_ok=True)
    packed = subprocess.run(
        ["git", "archive", "HEAD"], cwd=CHECKOUT, check=True, stdout=subprocess.PIPE
    ).stdout
    subprocess.run(["tar", "--extract", "--directory", target], input=packed, check=True)


def test_make_run_serves_there() -> None:
    with enter("make run", REGSVC_HTTP_PORT=str(take_port())) as process:
        try:
            said = []
            for line in output_of(process):
                said.append(line)
                if "Ctrl-C" in line:
                    break
            assert "Ctrl-C" in said[-1], "".join(said)
            (program,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            os.kill(int(program), signal.SIGINT)  # alone: make would turn its own into an error
            output_of(process).read()
            assert process.wait(60) == 0
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def test_what_holds_here_holds_there() -> None:
    with enter(
        f"sh -c 'make -s .venv/.test && .venv/bin/pytest -q -n 2 -p no:cacheprovider {TESTS}'"
    ) as process:
        said = output_of(process).read()
    assert process.wait() == 0, said
