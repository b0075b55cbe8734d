"""`make run` says plainly what it lacks."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = ("make", "sh", "find", "mkdir", "rm", "cat", "touch", "echo")

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="no make here")


def make_run(tmp_path: Path, python: str) -> subprocess.CompletedProcess[str]:
    """Runs `make run` where the given script is the only Python."""
    programs, checkout = tmp_path / "bin", tmp_path / "checkout"
    programs.mkdir()
    for tool in TOOLS:
        (programs / tool).symlink_to(shutil.which(tool) or f"/bin/{tool}")
    (programs / "python3").write_text(f"#!/bin/sh\n{python}\n")
    (programs / "python3").chmod(0o755)
    checkout.mkdir()
    for name in ("Makefile", "pyproject.toml", "requirements", "regsvc"):
        (checkout / name).symlink_to(ROOT / name)
    return subprocess.run(
        [programs / "make", "run"],
        cwd=checkout,
        env={"PATH": str(programs)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_no_fitting_python_is_named_as_the_reason(tmp_path: Path) -> None:
    run = make_run(tmp_path, "exit 1")
    assert run.returncode == 2
    assert run.stderr.startswith("regsvc needs Python 3.11 or newer")


def test_a_python_without_environments_is_named_as_the_reason_and_leaves_no_half_of_one(
    tmp_path: Path,
) -> None:
    run = make_run(
        tmp_path,
        'case "$*" in *"-m venv"*) mkdir -p .venv/bin; echo no ensurepip; exit 1;; *virtualenv*) exit 1;; esac',
    )
    assert run.returncode == 2
    assert "no ensurepip" in run.stderr
    assert "apt install python3-venv" in run.stderr
    assert not (tmp_path / "checkout" / ".venv").exists()
