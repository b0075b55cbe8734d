"""What `GET /me` costs one process, and two of `--processes 2`.

    python bench/processes.py [--rounds 9] [--seconds 0.5]

Both run at the same time, each on a database of its own, and are asked in windows in turn, over 16 connections. Two
processes that compute as much for a request as one does answer twice as many where a second core is free. Requests a
second say so where none is busy with something else; processor time says it anywhere. The supervisor is counted, too.
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

import trio
from clock import Load, Measurement, measure, microseconds, ratio, thread_seconds
from contenders import open_regsvc
from me import ADDRESS, PASSWORD, add_users, ask, write
from stand import (
    be_quiet,
    describe_machine,
    median,
    new_database,
    open_database,
    run,
    serve_settings,
    short_folder,
)

from tests.suite.leftovers import descendants

if TYPE_CHECKING:
    from clock import Window

CONNECTIONS = 16
GOAL = 1.7


def family_seconds(pid: int) -> float:
    """Return the processor seconds of a program and of the processes that it started."""
    return sum(sum(thread_seconds(each).values()) for each in (pid, *descendants(pid)))


def per_second(windows: list[Window]) -> float:
    """Return the median of the requests a second."""
    return median([len(window.taken) * CONNECTIONS / sum(window.taken) for window in windows])


async def main(rounds: int, seconds: float) -> None:
    """Start both, measure in turn and print."""
    be_quiet()
    with short_folder() as folder, ExitStack() as stack:
        async with open_database(folder) as server:
            asked = {}
            for processes in (1, 2):
                database = await new_database(server, f"family{processes}")
                settings = serve_settings(
                    database, f"maildir:{folder / 'mail'}", bcrypt_cost="10", processes=str(processes)
                )
                opened = stack.enter_context(open_regsvc(folder, settings, role="api"))
                await add_users(database)
                body = {"email": ADDRESS, "password": PASSWORD}
                token = (await ask(opened.port, "POST", "/api/v1/login", body))[0]["access_token"]
                request = write("GET", "/api/v1/me", Authorization=f"Bearer {token}")
                load = Load("127.0.0.1", opened.port, CONNECTIONS)
                asked[str(processes)] = Measurement(
                    load, partial(bytes, request), partial(family_seconds, opened.pid)
                )
            found = await trio.to_thread.run_sync(partial(measure, asked, rounds=rounds, seconds=seconds))
            stack.close()
    for processes, windows in found.items():
        spent = f"{microseconds(windows):.0f} us of processor time a request"
        print(f"{processes} process(es): {spent}, {per_second(windows):.0f}/s")
    print(
        f"two by one, requests a second: {per_second(found['2']) / per_second(found['1']):.2f};"
        f" by processor time, each with a core: {2 / ratio(found['2'], found['1']):.2f}  (goal: {GOAL} at least)"
    )
    print(describe_machine())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.5, help="length of a window")
    chosen = parser.parse_args()
    run(main, chosen.rounds, chosen.seconds)
