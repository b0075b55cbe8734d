"""One-row queries a second: regsvc's pool on Trio beside psycopg's own async connections on asyncio.

Two sides take turns against one embedded PostgreSQL, each in a process of its own, with the same statement and the
same number of connections and tasks:

trio        `regsvc.postgres.pool.Pool`, which queues, checks, limits and takes back;
asyncio     psycopg's `AsyncConnection`s on asyncio, lent out by the cheapest pool there is, a queue;

    python bench/pool.py [--seconds 2] [--rounds 5] [--connections 4] [--tasks 32]
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import statistics
import sys
import tempfile
import time
from pathlib import Path

import psycopg
import structlog
import trio

STATEMENT = "SELECT id, name FROM people WHERE id = %s"
ROWS = 1000
SIDES = ("trio", "asyncio")


async def measure_trio(conninfo: str, seconds: float, connections: int, tasks: int) -> float:
    """Queries a second through `Pool`, each borrowing a connection."""
    from regsvc.postgres.pool import Pool  # noqa: PLC0415 - the other sides have nothing of it

    pool = Pool(conninfo, size=connections, application_name="bench")
    done = 0

    async def work(deadline: float) -> None:
        nonlocal done
        while time.perf_counter() < deadline:
            async with pool.connection() as connection:
                cursor = await connection.execute(STATEMENT, [done % ROWS])
                await cursor.fetchone()
            done += 1

    began = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for _ in range(tasks):
            nursery.start_soon(work, began + seconds)
    rate = done / (time.perf_counter() - began)
    await pool.aclose()
    return rate


async def measure_asyncio(conninfo: str, seconds: float, connections: int, tasks: int) -> float:
    """Queries a second on psycopg's own connections."""
    idle: asyncio.Queue[psycopg.AsyncConnection] = asyncio.Queue()
    opened = [await psycopg.AsyncConnection.connect(conninfo, autocommit=True) for _ in range(connections)]
    for connection in opened:
        idle.put_nowait(connection)
    done = 0

    async def work(deadline: float) -> None:
        nonlocal done
        while time.perf_counter() < deadline:
            connection = await idle.get()
            cursor = await connection.execute(STATEMENT, [done % ROWS])
            await cursor.fetchone()
            idle.put_nowait(connection)
            done += 1

    began = time.perf_counter()
    await asyncio.gather(*(work(began + seconds) for _ in range(tasks)))
    rate = done / (time.perf_counter() - began)
    for connection in opened:
        await connection.close()
    return rate


def measure(side: str, arguments: argparse.Namespace) -> float:
    """Measure one side in this process."""
    each = (arguments.conninfo, arguments.seconds, arguments.connections, arguments.tasks)
    return trio.run(measure_trio, *each) if side == "trio" else asyncio.run(measure_asyncio(*each))


async def compare(arguments: argparse.Namespace, directory: Path) -> None:
    """Run the sides in turns against a server of our own, and print what each did."""
    from regsvc.postgres.embedded import EmbeddedPostgres  # noqa: PLC0415 - the sides have nothing of it

    rates: dict[str, list[float]] = {side: [] for side in SIDES}
    async with EmbeddedPostgres(directory / "data", root_dir=directory) as server:
        await trio.to_thread.run_sync(prepare, server.conninfo)
        command = [sys.executable, *sys.argv, "--conninfo", server.conninfo, "--side"]
        for number in range(arguments.rounds):
            for side, measured in rates.items():
                process = await trio.run_process([*command, side], capture_stdout=True)
                measured.append(float(process.stdout))
            each = "   ".join(f"{side} {measured[-1]:7,.0f}/s" for side, measured in rates.items())
            print(f"round {number + 1}:  {each}", flush=True)
    print("median:   " + "   ".join(f"{side} {statistics.median(rates[side]):7,.0f}/s" for side in SIDES))
    for side in SIDES[1:]:
        ratio = statistics.median(
            ours / theirs for ours, theirs in zip(rates["trio"], rates[side], strict=True)
        )
        print(f"trio / {side}: {ratio:.2f} (median of the rounds' ratios)")


def prepare(conninfo: str) -> None:
    """Make the table that is read."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("CREATE TABLE people (id integer PRIMARY KEY, name text NOT NULL)")
        connection.execute(
            "INSERT INTO people SELECT number, 'name ' || number FROM generate_series(0, %s) number",
            [ROWS - 1],
        )
        connection.execute("VACUUM ANALYZE people")


def main() -> None:
    """Read the arguments and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=2.0, help="length of one side's round (2)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each side (5)")
    parser.add_argument("--connections", type=int, default=4, help="connections of each side (4)")
    parser.add_argument("--tasks", type=int, default=32, help="tasks of each side (32)")
    parser.add_argument("--side", choices=SIDES, help="measure one side only, against --conninfo")
    parser.add_argument("--conninfo")
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    if arguments.side:
        print(measure(arguments.side, arguments))
        return
    with tempfile.TemporaryDirectory(prefix="regsvc-bench-") as name:
        Path(name).chmod(0o755)  # as root, the server's account has to reach it
        trio.run(compare, arguments, Path(name))


if __name__ == "__main__":
    main()
