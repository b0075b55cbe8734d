"""What many processes cost that share one database: at rest, and for each sign-up and its mail.

    python bench/fleet.py [--api 20] [--workers 10] [--signups 300] [--seconds 20]

One API process with one worker, then many of both, on a new database each. At rest: processor time of all regsvc
processes and of PostgreSQL in a while without requests, as shares of one core. Then people sign up, hashed at cost 10,
and each mail is handed to `bench/smtp_sink.py`: PostgreSQL's processor time for each, connections, and the updates of
`mails` and `registrations` that touched no index (HOT).
"""

from __future__ import annotations

import argparse
from contextlib import AsyncExitStack

import trio
from stand import (
    Program,
    be_quiet,
    computed,
    describe_machine,
    execute,
    new_database,
    open_program,
    open_sink,
    run,
    serve_settings,
    short_folder,
)

from regsvc.postgres.embedded import EmbeddedPostgres
from regsvc.postgres.migrate import migrate

CLIENTS = 8
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


async def measure(server: str, api: int, workers: int, signups: int, seconds: float) -> None:
    """Run that many processes, and print what they cost."""
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(short_folder())
        sink = stack.enter_context(open_sink(signups))
        database = await new_database(server, f"fleet_{api}_{workers}")
        await migrate(database)
        settings = serve_settings(database, sink.url, bcrypt_cost="10", rate_limits="off")
        programs = [
            stack.enter_context(
                open_program(
                    folder, "serve", "--role", role, "--processes", str(count), environ=settings, wait=False
                )
            )
            for role, count in (("api", api), ("worker", workers))
        ]
        for program in programs:
            await trio.to_thread.run_sync(program.wait_ready, PATIENCE)
        await trio.sleep(SETTLE)
        before = computed()
        await trio.sleep(seconds)
        rest = since(before)
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
        print(f"{api} API processes, {workers} workers: {connections} connections")
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


async def main(api: int, workers: int, signups: int, seconds: float) -> None:
    """Measure a small and a large fleet."""
    be_quiet()
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(short_folder())
        postgres = EmbeddedPostgres(folder / "database", root_dir=folder, settings={"max_connections": "900"})
        server = await stack.enter_async_context(postgres)
        for each in ((1, 1), (api, workers)):
            await measure(server.conninfo, *each, signups, seconds)
    print(describe_machine())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--api", type=int, default=20)
    parser.add_argument("--workers", type=int, default=10)
    parser.add_argument("--signups", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=20.0)
    chosen = parser.parse_args()
    run(main, chosen.api, chosen.workers, chosen.signups, chosen.seconds)
