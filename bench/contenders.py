"""The programs that regsvc is compared with: peers from PyPI, and regsvc as it was released.

Their environments are made once, in `build/bench`, and kept there. Each has a database of its own.
"""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import tarfile
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from stand import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PROJECT = Path(__file__).resolve().parents[1]
STORE = PROJECT / "build" / "bench"
PEERS = Path(__file__).with_name("peers")
RELEASED = "3ad6de7a17dbcd34a17ef0695c450aa445213af3"  # 0.2.0, as docs/operations.md names it


@dataclass(frozen=True)
class Contender:
    """A running program."""

    port: int
    pid: int

    @property
    def url(self) -> str:
        """Return where it serves."""
        return f"http://127.0.0.1:{self.port}"


def _install(name: str, *steps: list[str | Path]) -> Path:
    """Return the interpreter of an environment with these packages, making it if needed."""
    folder = STORE / name
    done = folder / "installed"
    if not done.exists():
        print(f"installing {name} …", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        pip = [folder / "bin" / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        for step in steps:
            subprocess.run([*pip, *step], check=True, stdout=sys.stderr)
        done.touch()
    return folder / "bin" / "python"


def install_peers() -> Path | None:
    """Return the interpreter that runs the peers; None where their packages cannot be had."""
    try:
        return _install("peers", ["-r", PEERS / "requirements.txt"])
    except subprocess.CalledProcessError:
        print("the peers' packages cannot be installed: measured without them", file=sys.stderr)
        return None


def install_released() -> tuple[Path, Path] | None:
    """Return the interpreter and the source of the released version; None where they cannot be had."""
    source = STORE / f"source-{RELEASED[:7]}"
    try:
        if not source.exists():
            packed = subprocess.run(
                ["git", "archive", RELEASED], cwd=PROJECT, check=True, stdout=subprocess.PIPE
            ).stdout
            with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
                archive.extractall(source, filter="data")
        python = _install(
            f"environment-{RELEASED[:7]}",
            ["-r", source / "requirements" / "base.txt"],
            ["--no-deps", source],
        )
    except subprocess.CalledProcessError:
        print("the released version cannot be had: measured without it", file=sys.stderr)
        return None
    return python, source


@contextmanager
def open_contender(
    folder: Path, command: list[str | Path], environ: Mapping[str, str], *, port: int, path: str, cwd: Path
) -> Iterator[Contender]:
    """Run a program until the block ends, once it answers 200 at a path."""
    output = folder / f"contender-{port}.log"
    with (
        output.open("wb") as file,
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            cwd=cwd,
            env={name: value for name, value in os.environ.items() if not name.startswith("REGSVC_")}
            | dict(environ),
        ) as process,
    ):
        try:
            _wait_ready(process, f"http://127.0.0.1:{port}{path}", output)
            yield Contender(port, process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait_ready(process: subprocess.Popen[bytes], url: str, output: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310 - http, of our own
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    raise SystemExit(f"{url} is not ready:\n{output.read_text()[-4000:]}")


@contextmanager
def open_peer(
    folder: Path, python: Path, name: str, database: str, *, cost: int, smtp: str = ""
) -> Iterator[Contender]:
    """Run one of the programs in `bench/peers` with uvloop and httptools, as its users would."""
    port = free_port()
    if name == "users":  # SQLAlchemy writes it in its own way
        parts = urlsplit(database)
        host = parse_qs(parts.query)["host"][0]
        database = f"postgresql+asyncpg://{parts.username}@{parts.path}?host={host}"
    command: list[str | Path] = [python, "-m", "uvicorn", f"{name}:app", "--port", str(port)]
    command += ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--timeout-keep-alive", "600"]
    environ = {"PEER_DATABASE": database, "PEER_COST": str(cost), "PEER_SMTP": smtp}
    with open_contender(folder, command, environ, port=port, path="/openapi.json", cwd=PEERS) as found:
        yield found


@contextmanager
def open_regsvc(
    folder: Path, environ: Mapping[str, str], *, role: str, released: tuple[Path, Path] | None = None
) -> Iterator[Contender]:
    """Run `regsvc serve` as it is, or as it was released, on its own schema."""
    port = free_port()
    settings = {f"REGSVC_{name.upper()}": value for name, value in environ.items()}
    settings |= {"REGSVC_HTTP_PORT": str(port)}
    python, source = released or (Path(sys.executable), PROJECT)
    command: list[str | Path] = [python, "-m", "regsvc"]
    subprocess.run(
        [*command, "migrate"], cwd=source, env=os.environ | settings, check=True, capture_output=True
    )
    command += ["serve", "--role", role]
    with open_contender(folder, command, settings, port=port, path="/readyz", cwd=source) as found:
        yield found
