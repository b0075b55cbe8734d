"""Mails a second of one worker with claim, rendering and bookkeeping: from PostgreSQL alone and through RabbitMQ.

    python bench/mailer.py [--mails 6000] [--sessions 4] [--way database|broker|queue] [--behind 0] [--released]
                           [--routes 1]

So many sign-ups wait in a real PostgreSQL (every commit on disk); then one `regsvc serve --role worker` is started
that sends to `bench/smtp_sink.py`. It takes the mails

    database   from PostgreSQL, there is no broker;
    broker     from RabbitMQ, and carries their ids there itself meanwhile;
    queue      from RabbitMQ, where a `regsvc serve --role api` has carried all ids before.

The clock runs from the first mail that the sink has to the last; then the books are read: every mail sent once. With
`--behind 100000` so many more mails are due and wait behind those that are measured. With `--released`, version 0.2.0
sends as many before and after, and this version's figures are printed by its. With `--routes 3`, turns with so many
routes to the same sink alternate with turns with one, and the figures of the many are printed by those of the one.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import trio
from contenders import install_released
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
TURNS = 5  # with one route, and with several
WAYS = ("database", "broker", "queue")


@dataclass(frozen=True)
class Load:
    """What is to be sent, and how."""

    mails: int
    sessions: int
    level: str
    behind: int


async def measure(load: Load, way: str, python: Path, *, routes: int = 1) -> tuple[float, float]:
    """Send so many mails one way, print what it took, and return mails a second and regsvc's microseconds a mail."""
    mails, behind = load.mails, load.behind
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(short_folder())
        database = await stack.enter_async_context(open_database(folder))
        sink = stack.enter_context(open_sink(mails // BLOCKS))
        urls = " ".join([sink.url, *[sink.url.replace("127.0.0.1", "localhost")] * (routes - 1)])
        settings = serve_settings(database, urls, smtp_sessions=str(load.sessions), log_level=load.level)
        if way != "database":
            settings["amqp_url"] = await trio.to_thread.run_sync(stack.enter_context, open_broker())
        await add_due_mails(database, mails + behind)
        if way == "queue":
            with open_program(folder, "serve", "--role", "api", environ=settings, python=python):
                await wait_all(database, "published_at IS NOT NULL", seconds=60 + (mails + behind) / 500)
        started = time.monotonic()
        worker = open_program(
            folder, "serve", "--role", "worker", environ=settings, wait=False, python=python
        )
        stack.enter_context(worker)
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
    return mails / seconds, each["regsvc"]


async def wait_all(database: str, condition: str, *, seconds: float) -> None:
    """Wait until every mail fulfils a condition."""
    with trio.fail_after(seconds):
        missing = f"SELECT count(*) FROM mails WHERE ({condition}) IS NOT TRUE"  # noqa: S608 - our own words
        while (await execute(database, missing))[0][0]:  # noqa: ASYNC110 - a table has no event
            await trio.sleep(0.05)


async def compare(load: Load, way: str, released: Path) -> None:
    """Measure 0.2.0, this version and 0.2.0 again, and print this one's figures by the other's."""
    before = await measure(load, way, released)
    rate, spent = await measure(load, way, Path(sys.executable))
    after = await measure(load, way, released)
    print(
        f"{'':<9} by 0.2.0, before and after: {2 * rate / (before[0] + after[0]):.2f} of its mails a second,"
        f" {2 * spent / (before[1] + after[1]):.2f} of its processor time a mail"
    )


async def compare_routes(load: Load, way: str, routes: int) -> None:
    """Measure with one route and with several in turns, and print the figures of the several by those of the one."""
    here = Path(sys.executable)
    found = [
        (await measure(load, way, here), await measure(load, way, here, routes=routes)) for _ in range(TURNS)
    ]
    rates, times = ([several[part] / one[part] for one, several in found] for part in (0, 1))
    print(
        f"{'':<9} {routes} routes by one, {TURNS} pairs of turns: {statistics.median(rates):.2f} of the mails a second"
        f" ({min(rates):.2f} to {max(rates):.2f}), {statistics.median(times):.2f} of the processor time a mail"
        f" ({min(times):.2f} to {max(times):.2f})"
    )


async def main(load: Load, ways: list[str], *, beside_released: bool, routes: int) -> None:
    """Measure one way after the other."""
    be_quiet()
    released = install_released() if beside_released else None
    for way in ways:
        if routes > 1:
            await compare_routes(load, way, routes)
        elif released is None:
            await measure(load, way, Path(sys.executable))
        else:
            await compare(load, way, released[0])
    print(
        f"{load.sessions} sessions, log level {load.level}; {describe_machine()}  (goals: 1,500; by RabbitMQ 1,000)"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mails", type=int, default=6_000)
    parser.add_argument("--sessions", type=int, default=4)
    parser.add_argument("--way", choices=WAYS, help="all if not said")
    parser.add_argument("--log-level", default="info", choices=["debug", "info", "warning", "error"])
    parser.add_argument("--behind", type=int, default=0, help="mails that are due behind those measured")
    parser.add_argument("--released", action="store_true", help="compare with version 0.2.0")
    parser.add_argument("--routes", type=int, default=1, help="compare so many routes with one")
    chosen = parser.parse_args()
    ways = [chosen.way] if chosen.way else list(WAYS)
    load = Load(chosen.mails, chosen.sessions, chosen.log_level, chosen.behind)
    run(partial(main, load, ways, beside_released=chosen.released, routes=chosen.routes))
