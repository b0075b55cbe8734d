"""Standard streams as people and init systems leave them: closed, full, without a reader, of an old encoding."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO

import httpx
import pytest
import trio

from tests.databases import run_sql
from tests.programs import clean_environ, serve_environ
from tests.suite.ports import take_port

REGSVC = [sys.executable, "-m", "regsvc"]
CLOSED = ["/bin/sh", "-c", 'exec "$@" >&- 2>&- <&-', "sh"]
NAME = "Łukasz 日本 🎉"
ADD_USER = f"""
INSERT INTO users (id, email, email_key, name, password_hash, email_confirmed_at)
VALUES (gen_random_uuid(), 'ann@example.com', 'ann@example.com', '{NAME}', 'x', now())
"""


@contextmanager
def full() -> Iterator[IO[bytes]]:
    with Path("/dev/full").open("wb") as stream:
        yield stream


@contextmanager
def unread() -> Iterator[IO[bytes]]:
    """A pipe whose reader is gone."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as stream:
        yield stream


@contextmanager
def closed() -> Iterator[None]:
    yield None


@pytest.mark.parametrize("stream", [full, unread, closed], ids=lambda it: it.__name__)
async def test_a_service_that_cannot_say_anything_serves_and_ends_cleanly(
    database: str, tmp_path: Path, stream: Callable[[], AbstractContextManager[IO[bytes] | None]]
) -> None:
    port = take_port()
    environ = clean_environ({**serve_environ(database, tmp_path), "REGSVC_HTTP_PORT": str(port)})
    with stream() as out:
        command = [*(CLOSED if out is None else []), *REGSVC, "serve"]
        process = await trio.lowlevel.open_process(
            command, env=environ, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            with trio.fail_after(60):
                while True:
                    assert process.returncode is None
                    try:
                        answer = await client.get("/readyz")
                    except httpx.TransportError:
                        answer = None
                    if answer is not None and answer.status_code == httpx.codes.OK:
                        break
                    await trio.sleep(0.05)
            body = {"email": "ann@example.com", "password": "correct horse 1", "name": "Ann"}
            assert (await client.post("/api/v1/register", json=body)).status_code == httpx.codes.CREATED
        process.terminate()
        with trio.fail_after(30):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()


def run(environ: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*REGSVC, *arguments],
        env=clean_environ(environ),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
@pytest.mark.parametrize("arguments", [["users", "list"], ["users", "list", "--json"], ["mail", "preview"]])
def test_a_terminal_that_does_not_know_a_name_is_shown_it_escaped(
    database: str, tmp_path: Path, encoding: str, arguments: list[str]
) -> None:
    run_sql(database, ADD_USER)
    environ = serve_environ(database, tmp_path) | {
        "LC_ALL": "C",
        "PYTHONCOERCECLOCALE": "0",
        "PYTHONUTF8": "0",
        "PYTHONIOENCODING": encoding,
    }
    ended = run(environ, *arguments)
    assert ended.returncode == 0, ended.stderr
    if arguments[0] == "users":
        # For ASCII alone the command line's library takes the encoding for a mistake, and writes UTF-8.
        assert rb"\u65e5\u672c" in ended.stdout or NAME.encode() in ended.stdout


def test_a_command_whose_reader_has_seen_enough_ends_without_a_word_of_a_bug(
    database: str, tmp_path: Path
) -> None:
    with unread() as out:
        ended = subprocess.run(
            [*REGSVC, "mail", "preview"],
            env=clean_environ(serve_environ(database, tmp_path)),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.PIPE,
            check=False,
            timeout=60,
        )
    assert ended.returncode == 1
    assert ended.stderr == b""
