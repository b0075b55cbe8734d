"""Mails a second of one worker with claim, rendering and bookkeeping: from PostgreSQL alone and through RabbitMQ.

    python bench/mailer.py [--mails 6000] [--sessions 4] [--way database|broker|queue] [--behind 0]

So many sign-ups wait in a real PostgreSQL (every commit on disk); then one `regsvc serve --role worker` is started
that sends to `bench/smtp_sink.py`. It takes the mails

    database   from PostgreSQL, there is no broker;
    broker     from RabbitMQ, and carries their ids there itself meanwhile;
    queue      from RabbitMQ, where a `regsvc serve --role api` has carried all ids before.

The clock runs from the first mail that the sink has to the last; then the books are read: every mail sent once. With
`--behind 100000` so many more mails are due and wait behind those that are measured.
"""

from __future__ import annotations

import argparse
import time
from contextlib import AsyncExitStack

import trio
from stand import (
    add_due_mails,
    be_quiet,
    computed,
    describe_machine,
    execute,
    open_broker,
    open_database,
    open_program,
    open_sink,
    run,
    serve_settings,
    short_folder,
)

BLOCKS = 10
WAYS = ("database", "broker", "queue")


async def measure(mails: int, sessions: int, way: str, level: str, behind: int) -> None:
    """Send so many mails one way and print what it took."""
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(short_folder())
        database = await stack.enter_async_context(open_database(folder))
        sink = stack.enter_context(open_sink(mails // BLOCKS))
        settings = serve_settings(database, sink.url, smtp_sessions=str(sessions), log_level=level)
        if way != "database":
            settings["amqp_url"] = await trio.to_thread.run_sync(stack.enter_context, open_broker())
        await add_due_mails(database, mails + behind)
        if way == "queue":
            with open_program(folder, "serve", "--role", "api", environ=settings):
                await wait_all(database, "published_at IS NOT NULL", seconds=60 + (mails + behind) / 500)
        started = time.monotonic()
        stack.enter_context(open_program(folder, "serve", "--role", "worker", environ=settings, wait=False))
        blocks, before = [await sink.wait_block()], computed()
        began = time.monotonic() - blocks[0]
        blocks += [await sink.wait_block() for _ in range(BLOCKS - 1)]
        seconds, after = time.monotonic() - began, computed()
        if not behind:
            await wait_all(database, "state = 'sent'", seconds=10)
        ((sent, twice, bookings),) = await execute(
            database,
            "SELECT count(*), count(*) FILTER (WHERE attempts <> 1), count(DISTINCT sent_at)"
            " FROM mails WHERE state = 'sent'",
        )
    rates = sorted(mails / BLOCKS / block for block in blocks)
    each = {
        name: (after[name] - before.get(name, 0)) * 1e6 / (mails * (BLOCKS - 1) / BLOCKS) for name in after
    }
    print(
        f"{way:<9} {mails / seconds:5.0f} mails/s (slowest tenth {rates[0]:.0f}, fastest {rates[-1]:.0f});"
        f" {sent} sent, {behind} behind, {twice} tried more than once, {sent / bookings:.1f} a booking;"
        f" first after {began - started:.2f} s"
    )
    print(
        f"{'':<9} processor time a mail: " + ", ".join(f"{n} {us:.0f} us" for n, us in sorted(each.items()))
    )


async def wait_all(database: str, condition: str, *, seconds: float) -> None:
    """Wait until every mail fulfils a condition."""
    with trio.fail_after(seconds):
        missing = f"SELECT count(*) FROM mails WHERE ({condition}) IS NOT TRUE"  # noqa: S608 - our own words
        while (await execute(database, missing))[0][0]:  # noqa: ASYNC110 - a table has no event
            await trio.sleep(0.05)


async def main(mails: int, sessions: int, ways: list[str], level: str, behind: int) -> None:
    """Measure one way after the other."""
    be_quiet()
    for way in ways:
        await measure(mails, sessions, way, level, behind)
    print(f"{sessions} sessions, log level {level}; {describe_machine()}  (floor: 500 mails/s, goal: 1,000)")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mails", type=int, default=6_000)
    parser.add_argument("--sessions", type=int, default=4)
    parser.add_argument("--way", choices=WAYS, help="all if not said")
    parser.add_argument("--log-level", default="info", choices=["debug", "info", "warning", "error"])
    parser.add_argument("--behind", type=int, default=0, help="mails that are due behind those measured")
    chosen = parser.parse_args()
    ways = [chosen.way] if chosen.way else list(WAYS)
    run(main, chosen.mails, chosen.sessions, ways, chosen.log_level, chosen.behind)
