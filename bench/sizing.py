"""What a service with so many users needs, by docs/sizing.md; and the measured figures behind it.

    python bench/sizing.py [--users 5000000]
    python bench/sizing.py --measure [--rows 200000]

The first prints the page's table for other numbers of users. The second prints its table of measured figures: the
bytes of a row with its indexes in a private database, filled and then packed by `VACUUM FULL`; the processor time of a
hash; memory and connections of a process of each role.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import bcrypt
import trio
from stand import (
    be_quiet,
    describe_machine,
    execute,
    open_database,
    open_program,
    run,
    serve_settings,
    short_folder,
)

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.growth.rows import fill
from tests.tools.sizing import PAGE, read_labels, write_table

# As long as those that the program stores.
_HASH = "$hmac-sha384-bcrypt$0123456789abcdef$2b$12$" + "x" * 53
TABLES = {
    "user": ("users",),
    "client": ("login_clients",),
    "factor": ("totp_authenticators", "recovery_keys"),
    "registration": ("registrations",),
    "mail": ("mails",),
    "session": ("sessions",),
    "audit": ("audit_events",),
    "event": ("events", "event_deliveries"),
}
"""What is counted as one thing, and the tables with a row for each."""


async def measure_rows(database: str, rows: int) -> None:
    """Fill the database and print the bytes of one of each."""
    await trio.to_thread.run_sync(fill, database, rows)
    for table in ("users", "registrations"):
        statement = f"UPDATE {table} SET password_hash = %s WHERE password_hash IS NOT NULL"  # noqa: S608 - ours
        await execute(database, statement, _HASH)
    for name, tables in TABLES.items():
        whole = indexes = 0.0
        for table in tables:
            await execute(database, f"VACUUM (FULL, ANALYZE) {table}")
            ((count,),) = await execute(database, f"SELECT count(*) FROM {table}")  # noqa: S608 - likewise
            ((total, index),) = await execute(
                database,
                "SELECT pg_total_relation_size(%s::regclass), pg_indexes_size(%s::regclass)",
                table,
                table,
            )
            whole, indexes = whole + total / count, indexes + index / count
        print(
            f"| `{name}_bytes` | {whole:.0f} | bytes of a {name}, {indexes:.0f} of them in indexes |",
            flush=True,
        )
        print(f"| `{name}_index` | {indexes:.0f} | bytes of those in indexes |")


def measure_hashes() -> None:
    """Print the processor time of a password hash."""
    for cost in (10, 12):
        seconds = []
        for _ in range(3):
            began = time.thread_time()
            bcrypt.hashpw(b"correct horse battery", bcrypt.gensalt(cost))
            seconds.append(time.thread_time() - began)
        print(f"| `hash_{cost}` | {min(seconds) * 1e3:.0f} | ms of processor time of a hash at cost {cost} |")


async def measure_processes(database: str, folder: Path) -> None:
    """Print memory and connections of a process of each role, which no request has reached."""
    for role in ("api", "worker"):
        settings = serve_settings(database, "smtp://127.0.0.1:9", metrics_allow="none")
        with open_program(folder, "serve", "--role", role, environ=settings) as program:
            ((connections,),) = await execute(
                database,
                "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'regsvc%%'",
            )
            print(f"| `{role}_memory` | {program.resident() / 1e6:.0f} | MB of a process |")
            print(f"| `{role}_connections` | {connections} | connections of a process at rest |")


async def measure(rows: int) -> None:
    """Measure everything and print it."""
    be_quiet()
    with short_folder() as folder:
        async with open_database(folder) as database:
            measure_hashes()
            await measure_processes(database, folder)
            await measure_rows(database, rows)
    print(describe_machine())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--users", type=int, action="append", help="instead of the page's numbers")
    parser.add_argument("--measure", action="store_true", help="the figures that the page is made of")
    parser.add_argument(
        "--rows", type=int, default=200_000, help="registrations and mails; half as many users"
    )
    chosen = parser.parse_args()
    if chosen.measure:
        run(measure, chosen.rows)
    else:
        page = PAGE.read_text("utf-8")
        print(write_table(page, read_labels(page), chosen.users or (10**4, 10**6, 10**8)))
