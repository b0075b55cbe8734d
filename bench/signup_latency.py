"""From a sign-up to the mail server's "accepted", less the hash of the password, while nothing else happens.

    python bench/signup_latency.py [--signups 150] [--way database|broker]

One sign-up after the other through `regsvc serve --role all`, each mail into `bench/smtp_sink.py`. The hash is not
guessed and subtracted: a registration's `created_at` is when its transaction began, which is right after the hash. The
delay is from then until the sink has the mail, by one machine's clock, and what comes before the hash is added: the
median answer to a sign-up that is refused (422) after all checks, just before it would be hashed.
"""

from __future__ import annotations

import argparse
import time
from contextlib import AsyncExitStack

import trio
from stand import (
    Client,
    Sink,
    be_quiet,
    describe_machine,
    execute,
    median,
    open_broker,
    open_database,
    open_program,
    open_sink,
    percentile,
    run,
    serve_settings,
    short_folder,
)

PASSWORD = "correct horse battery staple"


async def sign_up(client: Client, number: int, password: str = PASSWORD) -> int:
    """Sign somebody up and return the status."""
    body = {"email": f"person{number}@example.org", "password": password, "name": "Person"}
    status, _, _ = await client.request("POST", "/api/v1/register", body)
    return status


async def measure(signups: int, way: str) -> None:
    """Sign up one after the other one way and print the delays."""
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(short_folder())
        database = await stack.enter_async_context(open_database(folder))
        sink = stack.enter_context(open_sink(1))
        settings = serve_settings(database, sink.url, bcrypt_cost="10", rate_limits="off")
        if way == "broker":
            settings["amqp_url"] = await trio.to_thread.run_sync(stack.enter_context, open_broker())
        program = stack.enter_context(open_program(folder, "serve", "--role", "all", environ=settings))
        client = program.client()
        for number in range(10):  # connections are opened, statements prepared, templates read
            await take_time(client, sink, number)
        refused = [await refuse(client) for _ in range(signups)]
        arrived = [await take_time(client, sink, number) for number in range(10, 10 + signups)]
        rows = await execute(
            database, "SELECT email, extract(epoch FROM created_at)::float8 FROM registrations"
        )
    hashed = dict(rows)
    before = median(refused)
    delays = [
        (moment - hashed[f"person{number}@example.org"]) * 1000 + before
        for number, moment in enumerate(arrived, start=10)
    ]
    p50, p99, worst = (percentile(delays, share) for share in (0.5, 0.99, 1))
    print(
        f"{way:<9} p50 {p50:.1f} ms, p99 {p99:.1f} ms, worst {worst:.1f} ms of {signups}"
        f" (of that before the hash: {before:.1f} ms)  (goal: p99 100 ms at most)"
    )


async def take_time(client: Client, sink: Sink, number: int) -> float:
    """Sign somebody up and return when the sink had their mail, in seconds of the epoch."""
    moment = 0.0

    async def wait_mail() -> None:
        nonlocal moment
        await sink.wait_block()
        moment = time.time()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait_mail)
        if (status := await sign_up(client, number)) != 201:
            raise SystemExit(f"a sign-up was answered with {status}")
    return moment


async def refuse(client: Client) -> float:
    """Sign somebody up with their address as the password, and return the milliseconds until that is refused."""
    begun = time.perf_counter()
    if (status := await sign_up(client, 0, "person0@example.org")) != 422:
        raise SystemExit(f"a weak password was answered with {status}")
    return (time.perf_counter() - begun) * 1000


async def main(signups: int, ways: list[str]) -> None:
    """Measure one way after the other."""
    be_quiet()
    for way in ways:
        await measure(signups, way)
    print(describe_machine())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--signups", type=int, default=150)
    parser.add_argument("--way", choices=["database", "broker"], help="both if not said")
    chosen = parser.parse_args()
    run(main, chosen.signups, [chosen.way] if chosen.way else ["database", "broker"])
