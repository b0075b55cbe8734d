"""Logins beside programs that never rest, and `GET /me` beside logins: how the hashing threads share a core.

    python bench/neighbours.py [--cost 10] [--rounds 5] [--seconds 3]

Two loops that only compute run in the same scheduling group as regsvc and bare FastAPI (whose hashing threads have the
ordinary priority), on two cores. Each program in turn serves logins beside them for a while. Then, without the loops,
`GET /me` is asked a hundred times a second, alone and beside 64 clients that log in; its delay counts from when it was
due.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING

import trio
from clock import Load
from contenders import install_peers, open_peer, open_regsvc
from me import ADDRESS, PASSWORD, add_users, ask, write
from stand import (
    be_quiet,
    describe_machine,
    median,
    new_database,
    open_database,
    percentile,
    run,
    serve_settings,
    short_folder,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

BUSY = "while True: pass"
LOOPS = 2
EVERY = 0.01  # seconds between two GET /me


@contextmanager
def busy_loops() -> Iterator[None]:
    """Compute without pause on as many cores as there are loops."""
    running = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(LOOPS)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def count_logins(port: int, login: bytes, seconds: float) -> float:
    """Return the logins a second beside the loops."""
    load = Load("127.0.0.1", port, 4)
    with busy_loops():
        begun = time.perf_counter()
        done = len(load.run(lambda: login, seconds=seconds, want=200))
        return done / (time.perf_counter() - begun)


def watch(port: int, request: bytes, seconds: float) -> list[float]:
    """Ask at fixed times and return the milliseconds from when each request was due to its answer."""
    load = Load("127.0.0.1", port, 1)
    delays = []
    begun = time.perf_counter()
    for number in range(int(seconds / EVERY)):
        due = begun + number * EVERY
        time.sleep(max(0.0, due - time.perf_counter()))
        load.run(lambda: request, seconds=0, want=200)
        delays.append((time.perf_counter() - due) * 1e3)
    return delays


def watch_beside(port: int, login: bytes, request: bytes, seconds: float) -> list[float]:
    """Watch while 64 clients log in."""
    load = Load("127.0.0.1", port, 64)
    thread = threading.Thread(
        target=load.run, args=(lambda: login,), kwargs={"seconds": seconds + 1, "want": 200}
    )
    thread.start()
    time.sleep(1)  # until every one of them is in line
    try:
        return watch(port, request, seconds)
    finally:
        thread.join()


def measure(programs: dict[str, tuple[int, bytes, bytes]], rounds: int, seconds: float) -> None:
    """Measure in turn and print."""
    logins: dict[str, list[float]] = {name: [] for name in programs}
    tails: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(rounds):
        for name, (port, login, request) in programs.items():
            logins[name].append(count_logins(port, login, seconds))
            idle = percentile(watch(port, request, seconds), 0.99)
            tails[name].append(percentile(watch_beside(port, login, request, seconds), 0.99) / idle)
    for name in programs:
        print(
            f"{name:<12} logins beside {LOOPS} loops {median(logins[name]):.1f}/s;"
            f" p99 of GET /me beside 64 logins, by idle: {median(tails[name]):.2f}"
        )
    if len(logins) > 1:
        ours, theirs = logins.values()
        print(
            f"logins beside the loops, by the peer's: {median([a / b for a, b in zip(ours, theirs, strict=True)]):.2f}"
        )


async def main(cost: int, rounds: int, seconds: float) -> None:
    """Start both, measure and print."""
    be_quiet()
    body = {"email": ADDRESS, "password": PASSWORD}
    with short_folder() as folder, ExitStack() as stack:
        async with open_database(folder) as server:
            database = await new_database(server, "ours")
            settings = serve_settings(
                database, f"maildir:{folder / 'mail'}", bcrypt_cost=str(cost), rate_limits="off"
            )
            ours = stack.enter_context(open_regsvc(folder, settings, role="api"))
            await add_users(database)
            opened = {"regsvc": (ours.port, "/api/v1/login", "/api/v1/me")}
            if peers := install_peers():
                database = await new_database(server, "peer")
                peer = stack.enter_context(open_peer(folder, peers, "bare", database, cost=cost))
                await ask(peer.port, "POST", "/register", body | {"name": "P"})
                opened["bare FastAPI"] = peer.port, "/login", "/me"
            programs = {}
            for name, (port, login, me) in opened.items():
                token = (await ask(port, "POST", login, body))[0]["access_token"]
                request = write("GET", me, Authorization=f"Bearer {token}")
                programs[name] = port, write("POST", login, body), request
            await trio.to_thread.run_sync(partial(measure, programs, rounds, seconds))
            stack.close()
    print(f"cost {cost}; {describe_machine()}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cost", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3, help="length of a part of a round")
    chosen = parser.parse_args()
    run(main, chosen.cost, chosen.rounds, chosen.seconds)
