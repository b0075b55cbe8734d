"""The resident memory of `regsvc serve`: of each role at its start, and of `--role all` while people sign up.

    python bench/memory.py [--signups 1000] [--broker]

Real sign-ups over HTTP, sixteen at a time, hashed at cost 10, each mail handed to `bench/smtp_sink.py`. 10,000 take
five minutes or more of two cores, nearly all of it hashing; 1,000 show the same level and whether it grows.
"""

from __future__ import annotations

import argparse
from contextlib import AsyncExitStack

import trio
from stand import (
    Client,
    be_quiet,
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

CLIENTS = 16
STEPS = 10
START_GOALS = {"worker": 65, "api": 85, "all": 85}  # megabytes


async def sign_up(client: Client, number: int) -> None:
    """Sign one person up."""
    body = {
        "email": f"person{number}@example.org",
        "password": f"staple of person {number}",
        "name": "Person",
    }
    status, _, content = await client.request("POST", "/api/v1/register", body)
    if status != 201:
        raise SystemExit(f"a sign-up was answered with {status}: {content!r}")


async def main(signups: int, broker: bool) -> None:  # noqa: FBT001 - `run` passes by position
    """Sign up, look after every tenth of them, and print."""
    be_quiet()
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(short_folder())
        database = await stack.enter_async_context(open_database(folder))
        sink = stack.enter_context(open_sink(max(1, signups // STEPS)))
        settings = serve_settings(database, sink.url, bcrypt_cost="10", rate_limits="off")
        if broker:
            settings["amqp_url"] = await trio.to_thread.run_sync(stack.enter_context, open_broker())
        for role, goal in START_GOALS.items():
            with open_program(folder, "serve", "--role", role, environ=settings) as program:
                print(f"{role:>6} at its start: {program.resident() / 1e6:.1f} MB  (goal: {goal} MB at most)")
        if not signups:
            return
        program = stack.enter_context(open_program(folder, "serve", "--role", "all", environ=settings))
        clients = [program.client() for _ in range(CLIENTS)]
        numbers = iter(range(signups))

        async def keep_signing_up(client: Client) -> None:
            for number in numbers:
                await sign_up(client, number)

        async with trio.open_nursery() as nursery:
            for client in clients:
                nursery.start_soon(keep_signing_up, client)
            for step in range(1, STEPS + 1):
                await sink.wait_block()
                print(
                    f"{step * signups // STEPS:>6} mails sent: {program.resident() / 1e6:.1f} MB", flush=True
                )
        ((sent,),) = await execute(database, "SELECT count(*) FROM registrations WHERE state <> 'queued'")
        print(f"{sent} of {signups} registrations are on their way  (goal: 100 MB at most after 10,000)")
    print(describe_machine())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--signups", type=int, default=1_000, help="0: only the starts")
    parser.add_argument("--broker", action="store_true", help="mails travel through RabbitMQ")
    chosen = parser.parse_args()
    run(main, chosen.signups, chosen.broker)
