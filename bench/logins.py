"""What is left for everybody else while 64 clients log in without pause, and how many logins get through.

    python bench/logins.py [--cost 12] [--clients 64] [--seconds 5] [--rounds 3] [--priority 5]

Each round: `GET /me` a hundred times a second while nothing else happens; bare `bcrypt.checkpw` on every core, in this
process; then the clients log in, first alone (their number is compared with bare bcrypt's), then with `GET /me` beside
them. A request's delay counts from when it was due, so that a stall delays the requests behind it as it would a
person's. This process makes the load: it computes a few per cent of one core, which is part of what is measured.

The lane hashes at a low priority (nice 5), and so does bare bcrypt here. On a machine that has nothing else to do,
`--priority 0` asks for the harder comparison.
"""

from __future__ import annotations

import argparse
import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import bcrypt
import trio
from stand import (
    SECRET,
    Client,
    Program,
    be_quiet,
    computed,
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

from regsvc.security.cores import hashing_threads
from regsvc.security.passwords import HashingLane
from regsvc.security.tokens import Secrets

ADDRESS, PASSWORD = "person@example.org", "correct horse battery staple"
EVERY = 0.01  # seconds between two GET /me


async def add_user(database: str, cost: int) -> None:
    """Insert a user who can log in."""
    pepper, peppers = Secrets(SECRET.encode(), None).peppers()
    async with HashingLane(cost=cost, pepper=pepper, peppers=peppers) as lane:
        hashed = await lane.hash(PASSWORD)
    await execute(
        database,
        "INSERT INTO users (id, email, email_key, name, password_hash) VALUES (gen_random_uuid(), %s, %s, 'P', %s)",
        ADDRESS,
        ADDRESS,
        hashed,
    )


async def log_in(client: Client) -> str | None:
    """Log in and return the access token; None where the line was too long, after the pause asked for."""
    body = {"email": ADDRESS, "password": PASSWORD}
    status, headers, content = await client.request("POST", "/api/v1/login", body)
    if status == 503:
        await trio.sleep(float(headers["retry-after"]))
        return None
    if status != 200:
        raise SystemExit(f"a login was answered with {status}: {content!r}")
    token: str = json.loads(content)["access_token"]
    return token


async def watch(client: Client, token: str, seconds: float) -> list[float]:
    """Ask GET /me at fixed times and return the milliseconds from when each was due to its answer."""
    delays = []
    headers = {"Authorization": f"Bearer {token}"}
    begun = time.perf_counter()
    for number in range(int(seconds / EVERY)):
        due = begun + number * EVERY
        await trio.sleep(max(0.0, due - time.perf_counter()))
        status, _, _ = await client.request("GET", "/api/v1/me", headers=headers)
        if status != 200:
            raise SystemExit(f"GET /me was answered with {status}")
        delays.append((time.perf_counter() - due) * 1000)
    return delays


@dataclass(frozen=True)
class Rate:
    """So many verifications a second, and how many a second of processor time."""

    each_second: float
    each_computed: float


@dataclass(frozen=True)
class Round:
    """Milliseconds of every GET /me, idle and beside the logins, and what bare bcrypt and the logins did."""

    idle: list[float]
    beside: list[float]
    bare: Rate
    logins: Rate


def measure_bare(cost: int, seconds: float, priority: int) -> Rate:
    """Run bcrypt alone, on every core."""
    stored = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(cost))
    end = time.perf_counter() + seconds

    def work() -> tuple[int, float, float]:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), priority)
        done, begun = 0, time.perf_counter()
        while time.perf_counter() < end:
            bcrypt.checkpw(PASSWORD.encode(), stored)
            done += 1
        return done, time.perf_counter() - begun, time.thread_time()

    with ThreadPoolExecutor(hashing_threads()) as threads:
        running = [threads.submit(work) for _ in range(hashing_threads())]
        done, took, busy = zip(*(future.result() for future in running), strict=True)
    return Rate(sum(number / each for number, each in zip(done, took, strict=True)), sum(done) / sum(busy))


async def measure_round(
    program: Program, token: str, *, cost: int, clients: int, seconds: float, priority: int
) -> Round:
    """Measure everything once."""
    probe = program.client()
    idle = await watch(probe, token, seconds)
    bare = await trio.to_thread.run_sync(measure_bare, cost, seconds, priority)
    finished: list[float] = []
    shed = 0

    async def keep_logging_in() -> None:
        client = program.client()
        nonlocal shed
        while True:
            if await log_in(client):
                finished.append(time.perf_counter())
            else:
                shed += 1

    async with trio.open_nursery() as nursery:
        for _ in range(clients):
            nursery.start_soon(keep_logging_in)
        await trio.sleep(1)  # until every one of them is in line
        del finished[:]
        before = computed()
        await trio.sleep(seconds)
        busy = sum(computed()[name] - before[name] for name in ("regsvc", "PostgreSQL"))
        logins = Rate((len(finished) - 1) / (finished[-1] - finished[0]), len(finished) / busy)
        beside = await watch(probe, token, seconds)
        nursery.cancel_scope.cancel()
    if shed:
        print(f"{shed} logins were turned away: the line was too slow")
    await trio.sleep(1)  # until the hashes in hand are done
    return Round(idle, beside, bare, logins)


async def main(cost: int, clients: int, seconds: float, rounds: int, priority: int) -> None:
    """Measure in turn and print."""
    be_quiet()
    measured: list[Round] = []
    with short_folder() as folder:
        async with open_database(folder) as database:
            await add_user(database, cost)
            settings = serve_settings(
                database, f"maildir:{folder / 'mail'}", bcrypt_cost=str(cost), rate_limits="off"
            )
            with open_program(folder, "serve", "--role", "api", environ=settings) as program:
                token = await log_in(program.client())
                assert token is not None  # noqa: S101 - nobody else logs in
                await watch(program.client(), token, 1)
                measure = partial(
                    measure_round,
                    program,
                    token,
                    cost=cost,
                    clients=clients,
                    seconds=seconds,
                    priority=priority,
                )
                for number in range(1, rounds + 1):
                    new = await measure()
                    measured.append(new)
                    print(
                        f"round {number}: GET /me p99 {percentile(new.idle, 0.99):.1f} ms idle,"
                        f" {percentile(new.beside, 0.99):.1f} ms beside {clients} logins;"
                        f" bare bcrypt {new.bare.each_second:.2f}/s, logins {new.logins.each_second:.2f}/s"
                    )
    idle, beside = [d for each in measured for d in each.idle], [d for each in measured for d in each.beside]
    for name, delays in ("idle", idle), ("beside the logins", beside):
        p50, p99, worst = (percentile(delays, share) for share in (0.5, 0.99, 1))
        print(f"GET /me {name}: p50 {p50:.1f} ms, p99 {p99:.1f} ms, worst {worst:.1f} ms of {len(delays)}")
    tails = [percentile(each.beside, 0.99) / percentile(each.idle, 0.99) for each in measured]
    rates = [each.logins.each_second / each.bare.each_second for each in measured]
    efficiencies = [each.logins.each_computed / each.bare.each_computed for each in measured]
    print(f"medians of {rounds} rounds:")
    print(f"  p99 beside / idle                                  {median(tails):.2f}  (goal: 3 at most)")
    print(
        f"  logins / bare bcrypt, at priority {priority:<2}               {median(rates):.3f}  (goal: 0.95 at least)"
    )
    print(f"  the same per processor time, whoever else ran      {median(efficiencies):.3f}")
    print(f"cost {cost}; {describe_machine()}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cost", type=int, default=12)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument(
        "--seconds", type=float, default=5, help="length of each of the four parts of a round"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--priority", type=int, default=5, help="of bare bcrypt: 5 like the lane, 0 like others"
    )
    chosen = parser.parse_args()
    run(main, chosen.cost, chosen.clients, chosen.seconds, chosen.rounds, chosen.priority)
