"""Of several processes one does the chores, and another one when it is killed."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import psycopg
import trio

from regsvc.jobs.leading import LIFE
from tests.programs import Program, run_program, serve_environ

_LEADER = "SELECT holder FROM leaderships WHERE chore = 'janitor' AND until > now()"
_LOOK = 5.0  # seconds more that a busy machine may take


def find_leader(database: str, programs: list[Program]) -> Program | None:
    """Return the process that leads."""
    with psycopg.connect(database, autocommit=True) as connection:
        row = connection.execute(_LEADER).fetchone()
    pid = None if row is None else int(row[0].split("/")[1])
    return next((program for program in programs if program.process.pid == pid), None)


async def wait_leader(database: str, programs: list[Program]) -> Program:
    """Wait until one of these processes leads."""
    with trio.fail_after(LIFE.total_seconds() + 1 + _LOOK):
        while (found := find_leader(database, programs)) is None:  # noqa: ASYNC110 - a row of another process
            await trio.sleep(0.1)
    return found


async def test_a_leader_that_is_killed_is_followed_by_another_process(database: str, tmp_path: Path) -> None:
    environ = serve_environ(database, tmp_path)
    async with AsyncExitStack() as stack:
        programs = [
            await stack.enter_async_context(
                run_program("serve", "--role", role, folder=tmp_path, environ=environ)
            )
            for role in ("worker", "api")
        ]
        leader = await wait_leader(database, programs)
        leader.process.kill()
        await leader.process.wait()
        programs.remove(leader)
        assert await wait_leader(database, programs) is programs[0]
        await programs[0].wait_log("chores led")
        assert await programs[0].stop() == 0
        assert find_leader(database, programs) is None, "a process that ends in order leaves at once"
        programs[0].check_log()
