"""The image is small, unprivileged, and says when it is ill."""

from __future__ import annotations

import fnmatch
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import tomllib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LINES = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text()).splitlines()


def instruction(word: str) -> str:
    """The last instruction of that word, which is the one that counts."""
    return next(line for line in reversed(LINES) if line.startswith(word)).removeprefix(word).strip()


def test_it_runs_as_nobody_in_particular_and_gets_signals_itself() -> None:
    assert instruction("USER") == "10001:10001"
    assert json.loads(instruction("ENTRYPOINT")) == ["regsvc"]
    assert json.loads(instruction("CMD")) == ["serve"]
    assert instruction("STOPSIGNAL") == "SIGTERM"


def test_it_is_built_from_the_wheel_and_the_pins_without_the_embedded_database() -> None:
    text = "\n".join(LINES)
    assert "pip wheel" in text
    assert "requirements/serve.txt" in text
    assert "requirements/build.txt" in text
    assert "--no-build-isolation" in text  # an isolated build would fetch what no hash vouches for
    assert "embedded" not in (ROOT / "requirements" / "serve.txt").read_text()
    final = text.rpartition("\nFROM ")[2]
    assert re.findall(r"^COPY .*", final, re.MULTILINE) == ["COPY --from=build /opt/regsvc /opt/regsvc"]


def test_nothing_is_compiled_at_each_start() -> None:
    """The base image has no compiled files, and the program may not write them."""
    compiling = next(line for line in LINES if line.startswith("RUN python -m compileall"))
    folder = subprocess.run(
        [sys.executable, "-c", 'import sysconfig; print(sysconfig.get_path("stdlib"))'],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert (Path(folder) / "asyncio").is_dir()
    assert 'sysconfig.get_path("stdlib")' in compiling
    skipped = re.search(r"-x '(.*?)'", compiling)
    assert skipped is not None
    for module in ("asyncio/base_events.py", "json/decoder.py", "ssl.py", "email/message.py"):
        assert not re.search(skipped[1], f"{folder}/{module}"), module
    assert re.search(skipped[1], f"{folder}/test/test_ssl.py")
    assert "--no-compile" not in "\n".join(LINES)


def test_its_labels_say_what_it_is_and_make_takes_them_from_the_commit() -> None:
    labels = dict(re.findall(r'org\.opencontainers\.image\.(\w+)="(.*?)"', instruction("LABEL")))
    final = "\n".join(LINES).rpartition("\nFROM ")[2]
    arguments = dict(re.findall(r"^ARG (\w+)=(\S*)", final, re.MULTILINE))
    assert labels["title"] == "regsvc"
    assert labels["licenses"] == PROJECT["license"]
    variable = {"version", "revision", "created", "source"}
    assert set(labels) == variable | {"title", "description", "licenses"}
    assert {name: labels[name] for name in variable} == {name: f"${{{name.upper()}}}" for name in variable}, (
        "all from arguments"
    )
    assert arguments == {name.upper(): "" for name in variable}


@pytest.mark.skipif(shutil.which("make") is None or shutil.which("git") is None, reason="no make or git here")
def test_the_same_commit_gets_the_same_labels(tmp_path: Path) -> None:
    """Whenever and wherever it is built: the moment is that of the commit, in UTC."""
    (tmp_path / "docker").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (tmp_path / "docker").chmod(0o755)
    moment = {
        "GIT_AUTHOR_DATE": "2026-03-01T23:30:00-05:00",
        "GIT_COMMITTER_DATE": "2026-03-01T23:30:00-05:00",
    }
    environ = (
        os.environ | moment | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "TZ": "Asia/Tokyo"}
    )
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, checkout)
    (checkout / "regsvc").mkdir()

    def run(*command: str) -> str:
        return subprocess.run(
            command, cwd=checkout, env=environ, capture_output=True, text=True, check=True, timeout=60
        ).stdout

    identity = ("-c", "user.name=Ann", "-c", "user.email=ann@example.org", "-c", "commit.gpgsign=false")
    run("git", "init", "--quiet")
    run("git", "add", ".")
    run("git", *identity, "commit", "--quiet", "--message", "One")
    given = dict(re.findall(r"^(\w+)=(.*)$", run("make", "--silent", "image"), re.MULTILINE))
    assert given == {
        "VERSION": PROJECT["version"],
        "REVISION": run("git", "rev-parse", "HEAD").strip(),
        "CREATED": "2026-03-02T04:30:00Z",
        "SOURCE": "",
    }


def test_everything_it_copies_is_let_through_to_the_builder_and_secrets_are_not() -> None:
    patterns = (ROOT / ".dockerignore").read_text().split()
    assert patterns[0] == "*"
    allowed = {pattern[1:] for pattern in patterns if pattern.startswith("!")}
    copied = {
        source
        for line in LINES
        if line.startswith("COPY ") and "--from" not in line
        for source in line.split()[1:-1]
    }
    assert copied == allowed
    assert all((ROOT / name).exists() for name in copied)
    assert not any(fnmatch.fnmatch(".env", pattern) for pattern in allowed)


@contextmanager
def answering(status: int) -> Iterator[int]:
    """A server on loopback that answers `/healthz` with a status; gives its port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/healthz" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def health(port: int) -> int:
    command = json.loads(instruction("HEALTHCHECK").partition("CMD ")[2])
    assert command[0] == "python"
    run = subprocess.run(
        [sys.executable, *command[1:]],
        env={"REGSVC_HTTP_PORT": str(port)},
        capture_output=True,
        check=False,
        timeout=30,
    )
    return run.returncode


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_its_health_is_what_healthz_says(status: int, code: int) -> None:
    with answering(status) as port:
        assert health(port) == code


def test_it_is_ill_when_nothing_listens_and_well_when_nothing_is_to() -> None:
    with answering(200) as port:
        pass
    assert health(port) == 1
    assert health(0) == 0
