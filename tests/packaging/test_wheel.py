"""The wheel holds the whole program, and it is what the tests run."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

import regsvc

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Give the wheel, built of the checkout."""
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)],
        check=True,
        capture_output=True,
        timeout=100,
    )
    (path,) = out.glob("*.whl")
    return zipfile.ZipFile(path)


def test_every_file_of_the_package_is_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    files = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "regsvc").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert {name for name in wheel.namelist() if ".dist-info/" not in name} == files
    for needed in ("regsvc/py.typed", "regsvc/mail/message/templates/", "regsvc/postgres/migrations/0001_"):
        assert any(name.startswith(needed) for name in files), needed


def test_the_wheel_says_what_it_is(wheel: zipfile.ZipFile) -> None:
    info = f"regsvc-{regsvc.__version__}.dist-info"
    about = Parser().parsestr(wheel.read(f"{info}/METADATA").decode())
    assert about["License-Expression"] == "Apache-2.0"
    assert about["Requires-Python"] == ">=3.11"
    assert f"{info}/licenses/LICENSE" in wheel.namelist()
    assert "regsvc = regsvc.__main__:main" in wheel.read(f"{info}/entry_points.txt").decode()


@pytest.mark.skipif("REGSVC_TEST_INSTALLED" not in os.environ, reason="the checkout is tested, not a wheel")
def test_what_is_tested_is_the_installed_wheel() -> None:
    installed = Path(os.environ["REGSVC_TEST_INSTALLED"])
    assert Path(regsvc.__file__).is_relative_to(installed)
    run = subprocess.run(
        [sys.executable, "-c", "import regsvc; print(regsvc.__file__)"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert Path(run.stdout.strip()).is_relative_to(installed)
