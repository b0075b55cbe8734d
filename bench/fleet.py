"""What many processes cost that share one database: at rest, and for each sign-up and its mail.

    python bench/fleet.py [--api 20] [--workers 10] [--signups 300] [--seconds 20] [--broker] [--beside COMMIT]

One API process with one worker, then many of both, on a new database each. At rest: statements that PostgreSQL was
sent, and processor time of all regsvc processes and of PostgreSQL in a while without requests, as shares of one core.
Then people sign up, hashed at cost 10, and each mail is handed to `bench/smtp_sink.py`: PostgreSQL's processor time for
each, connections, and the updates of `mails` and `registrations` that touched no index (HOT).

With `--beside`, many of an earlier version are measured first, in the same environment and on the present schema.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import tarfile
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import trio
from stand import (
    Program,
    be_quiet,
    computed,
    describe_machine,
    execute,
    new_database,
    open_broker,
    open_program,
    open_sink,
    run,
    serve_settings,
    short_folder,
)

from regsvc.postgres.embedded import EmbeddedPostgres
from regsvc.postgres.migrate import migrate

CLIENTS = 8
SETTINGS = {"max_connections": "900", "shared_preload_libraries": "pg_stat_statements"}
PATIENCE = 240.0  # seconds for the start
SETTLE = 5.0  # seconds after it
_UPDATES = """
    SELECT relname, n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables
     WHERE relname IN ('mails', 'registrations', 'throttles') ORDER BY relname
"""


async def sign_up(program: Program, count: int) -> None:
    """Sign up that many people."""
    numbers = iter(range(count))

    async def work() -> None:
        client = program.client()
        for number in numbers:
            body = {
                "email": f"person{number}@example{number % 40}.org",
                "password": "staple of people",
                "name": "P",
            }
            status, _, content = await client.request("POST", "/api/v1/register", body)
            if status != 201:
                raise SystemExit(f"a sign-up was answered with {status}: {content!r}")
        await client.aclose()

    async with trio.open_nursery() as nursery:
        for _ in range(CLIENTS):
            nursery.start_soon(work)


def since(before: dict[str, float]) -> dict[str, float]:
    """Return the seconds of processor time since then."""
    return {name: seconds - before.get(name, 0.0) for name, seconds in computed().items()}


def unpack(commit: str, folder: Path) -> Path:
    """Return a folder with the package of an earlier commit."""
    root = Path(__file__).parents[1]
    packed = subprocess.run(
        ["git", "archive", commit, "regsvc"], cwd=root, check=True, stdout=subprocess.PIPE
    ).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder / commit, filter="data")
    return folder / commit


async def count_statements(database: str) -> int:
    """Return how many statements PostgreSQL has executed."""
    ((calls,),) = await execute(database, "SELECT coalesce(sum(calls), 0)::bigint FROM pg_stat_statements")
    return int(calls)


async def measure(
    server: str,
    api: int,
    workers: int,
    signups: int,
    seconds: float,
    *,
    broker: str | None,
    source: Path | None,
) -> None:
    """Run that many processes, of the package in `source` if it is not this one, and print what they cost."""
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(short_folder())
        sink = stack.enter_context(open_sink(signups))
        database = await new_database(server, f"fleet_{api}_{workers}{'' if source is None else '_before'}")
        await execute(database, "CREATE EXTENSION pg_stat_statements")
        await migrate(database)
        settings = serve_settings(database, sink.url, bcrypt_cost="10", rate_limits="off")
        if broker is not None:
            settings["amqp_url"] = broker
        programs = [
            stack.enter_context(
                open_program(
                    folder,
                    "serve",
                    "--role",
                    role,
                    "--processes",
                    str(count),
                    environ=settings,
                    wait=False,
                    package=source,
                )
            )
            for role, count in (("api", api), ("worker", workers))
        ]
        for program in programs:
            await trio.to_thread.run_sync(program.wait_ready, PATIENCE)
        await trio.sleep(SETTLE)
        before, sent = computed(), await count_statements(database)
        await trio.sleep(seconds)
        rest, sent = since(before), await count_statements(database) - sent - 1
        ((connections,),) = await execute(
            database,
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        before = computed()
        began = trio.current_time()
        await sign_up(programs[0], signups)
        await sink.wait_block()
        took = trio.current_time() - began
        cost = since(before)
        version = "" if source is None else f", version {source.name[:7]}"
        print(f"{api} API processes, {workers} workers{version}: {connections} connections")
        print(f"  {sent / seconds * 60:.0f} statements a minute at rest")
        for name in ("regsvc", "PostgreSQL"):
            print(
                f"  {name:<11}{rest[name] / seconds:8.1%} of a core at rest"
                f"{(cost[name] - rest[name] / seconds * took) / signups * 1000:8.1f} ms a sign-up besides"
            )
        await trio.sleep(2)  # statistics are written a second later
        for table, updates, hot in await execute(database, _UPDATES):
            print(
                f"  {table:<14}{updates / signups:6.1f} updates a sign-up, {hot / max(updates, 1):4.0%} of them HOT"
            )


async def main(
    api: int, workers: int, signups: int, seconds: float, *, with_broker: bool, beside: str | None
) -> None:
    """Measure a small and a large fleet."""
    be_quiet()
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(short_folder())
        postgres = EmbeddedPostgres(folder / "database", root_dir=folder, settings=SETTINGS)
        server = await stack.enter_async_context(postgres)
        runs: list[tuple[int, int, Path | None]] = [(1, 1, None), (api, workers, None)]
        if beside is not None:
            runs.insert(1, (api, workers, unpack(beside, folder)))
        for each_api, each_workers, source in runs:
            broker = stack.enter_context(open_broker()) if with_broker else None
            await measure(
                server.conninfo, each_api, each_workers, signups, seconds, broker=broker, source=source
            )
    print(describe_machine())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--api", type=int, default=20)
    parser.add_argument("--workers", type=int, default=10)
    parser.add_argument("--signups", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--broker", action="store_true", help="with RabbitMQ, a new node each")
    parser.add_argument("--beside", metavar="COMMIT", help="an earlier version")
    chosen = parser.parse_args()
    run(
        partial(main, with_broker=chosen.broker, beside=chosen.beside),
        chosen.api,
        chosen.workers,
        chosen.signups,
        chosen.seconds,
    )
