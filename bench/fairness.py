"""What clients that do their worst within the limits leave for others: their logins and `GET /me`.

    python bench/fairness.py [--cost 10] [--seconds 10] [--rounds 3]

Each round measures an honest client alone, then beside one greedy client, then beside four. The honest one logs in
again and again, one login at a time, and asks `GET /me` ten times a second. A greedy client signs up, logs in,
presses links and asks for emails as often as its limits let it, all at once, over 24 connections; each comes from a
network of its own, told by `X-Forwarded-For`. Limits are on. Printed are p99 and its ratio to the p99 alone, in the
same run.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, field
from itertools import count
from uuid import uuid4

import trio
from logins import ADDRESS, PASSWORD, add_user
from stand import (
    SECRET,
    Program,
    be_quiet,
    describe_machine,
    execute,
    median,
    open_database,
    open_program,
    percentile,
    run,
    serve_settings,
    short_folder,
)

from regsvc.security.tokens import Secrets, mint_link_token

EVERY = 0.1  # seconds between two GET /me
TOKEN = mint_link_token(Secrets(SECRET.encode(), None), uuid4(), ADDRESS)  # of no registration
GREEDY_CONNECTIONS = 24
_numbers = count()


@dataclass
class Seen:
    """What the honest client met: milliseconds of each login and each GET /me, and logins that were refused."""

    logins: list[float] = field(default_factory=list)
    me: list[float] = field(default_factory=list)
    refused: int = 0


def come_from(network: int) -> dict[str, str]:
    """Return the header of a proxy on this machine for a client of a network of its own."""
    return {"X-Forwarded-For": f"198.51.{network}.1"}


async def be_greedy(program: Program, network: int) -> None:
    """Ask for whatever costs something, at once and again as soon as the limits let it."""
    calls = [
        (
            "/api/v1/register",
            lambda n: {"email": f"g{n}@example.net", "password": f"password {n}", "name": "G"},
        ),
        ("/api/v1/login", lambda n: {"email": f"g{n}@example.net", "password": "guess"}),
        ("/api/v1/password/forgot", lambda n: {"email": f"g{n}@example.net"}),
        ("/api/v1/confirm-email", lambda n: {"token": TOKEN, "password": f"password {n}"}),
    ]

    async def repeat(which: int) -> None:
        client = program.client()
        path, body = calls[which % len(calls)]
        while True:
            status, headers, _ = await client.request("POST", path, body(next(_numbers)), come_from(network))
            if status in {429, 503}:
                await trio.sleep(float(headers["retry-after"]))

    async with trio.open_nursery() as nursery:
        for which in range(GREEDY_CONNECTIONS):
            nursery.start_soon(repeat, which)


async def be_honest(program: Program, seconds: float) -> Seen:
    """Log in one time after the other, and ask GET /me beside it."""
    seen, client = Seen(), program.client()
    origin = come_from(0)

    async def log_in() -> str:
        while True:
            begin = trio.current_time()
            status, _, content = await client.request(
                "POST", "/api/v1/login", {"email": ADDRESS, "password": PASSWORD}, origin
            )
            if status == 200:
                seen.logins.append(1000 * (trio.current_time() - begin))
                token: str = json.loads(content)["access_token"]
                return token
            seen.refused += 1
            await trio.sleep(0.1)

    token = await log_in()

    async def keep_logging_in() -> None:
        while True:
            await log_in()
            await trio.sleep(3.1)  # within the limit of one login in three seconds

    async def ask() -> None:
        asking, due = program.client(), trio.current_time()
        headers = {"Authorization": f"Bearer {token}", **origin}
        while True:
            await trio.sleep_until(due)
            await asking.request("GET", "/api/v1/me", headers=headers)
            seen.me.append(1000 * (trio.current_time() - due))
            due += EVERY

    with trio.move_on_after(seconds):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep_logging_in)
            nursery.start_soon(ask)
    return seen


async def measure(program: Program, greedy: int, seconds: float) -> Seen:
    """Return what the honest client meets beside so many greedy ones."""
    async with trio.open_nursery() as nursery:
        for network in range(1, greedy + 1):
            nursery.start_soon(be_greedy, program, network)
        seen = await be_honest(program, seconds)
        nursery.cancel_scope.cancel()
    return seen


async def main(cost: int, seconds: float, rounds: int) -> None:
    """Measure and print."""
    be_quiet()
    print(describe_machine())
    with short_folder() as folder:
        async with open_database(folder) as database:
            await add_user(database, cost)
            settings = serve_settings(
                database,
                f"maildir:{folder / 'mail'}",
                bcrypt_cost=str(cost),
                trusted_proxies="127.0.0.0/8",
            )
            with open_program(folder, "serve", "--role", "api", environ=settings) as program:
                ratios: dict[int, list[tuple[float, float]]] = {1: [], 4: []}
                for _ in range(rounds):
                    alone = await measure(program, 0, seconds)
                    for greedy in (1, 4):
                        await execute(database, "TRUNCATE throttles, login_failures")
                        seen = await measure(program, greedy, seconds)
                        ratios[greedy].append(show(greedy, alone, seen))
                for greedy, found in ratios.items():
                    logins, me = (median(each) for each in zip(*found, strict=True))
                    print(
                        f"beside {greedy}: login p99 x {logins:.1f}, GET me p99 x {me:.1f} (median of rounds)"
                    )


def show(greedy: int, alone: Seen, seen: Seen) -> tuple[float, float]:
    """Print one measurement and return its ratios to the one alone."""
    found = []
    for name, before, now in (("login", alone.logins, seen.logins), ("GET me", alone.me, seen.me)):
        first, second = percentile(before, 0.99), percentile(now, 0.99)
        found.append(second / first)
        print(f"beside {greedy}: {name} p99 {second:.0f} ms, alone {first:.0f} ms, x {second / first:.1f}")
    print(f"beside {greedy}: {len(seen.logins)} logins answered, {seen.refused} refused")
    return found[0], found[1]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cost", type=int, default=10, help="bcrypt's")
    parser.add_argument("--seconds", type=float, default=10, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    run(main, chosen.cost, chosen.seconds, chosen.rounds)
