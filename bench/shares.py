"""The hash's share of the processor time of a sign-up, mail included, and of a login; peers beside it.

    python bench/shares.py [--cost 10] [--rounds 5] [--seconds 4] [--broker]

regsvc, bare FastAPI and fastapi-users run at the same time on one PostgreSQL, each with a database of its own, and work
in windows in turn. Before and after each, bare `bcrypt` hashes in this process on as many threads. The share is what a
hash costs there by what the program and the servers compute for a sign-up or login; once more without the servers.
regsvc runs in role `all`, with the limits on and every request from a client of its own; `--broker` has it carry ids
through RabbitMQ, which counts, too.
"""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

import bcrypt
import trio
from clock import Load, Measurement, named_seconds, thread_seconds
from contenders import install_peers, open_peer, open_regsvc
from me import USERS, add_users, ask, from_new_clients, write
from stand import (
    be_quiet,
    describe_machine,
    median,
    new_database,
    open_broker,
    open_database,
    open_sink,
    run,
    serve_settings,
    short_folder,
)

from regsvc.security.cores import hashing_threads

if TYPE_CHECKING:
    from collections.abc import Callable

    from contenders import Contender

PASSWORD = "correct horse battery staple"
CONNECTIONS = 4
SETTLE = 0.7  # seconds for mails that are still to be sent


def sign_ups(path: str) -> Callable[[], bytes]:
    """Return what makes sign-ups of new people, each from a client of its own."""
    numbers = count(1)

    def make() -> bytes:
        number = next(numbers)
        address = f"12.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
        body = {"email": f"new{number}@d{number % 20}.example.org", "password": PASSWORD, "name": "New"}
        return write("POST", path, body, X_Forwarded_For=address)

    return make


def measure_hash(cost: int, seconds: float) -> float:
    """Return the processor seconds of one hash on as many threads as the lane has."""
    end = time.perf_counter() + seconds

    def work() -> tuple[int, float]:
        done, begun = 0, time.thread_time()
        while time.perf_counter() < end:
            bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(cost))
            done += 1
        return done, time.thread_time() - begun

    with ThreadPoolExecutor(hashing_threads()) as threads:
        found = [future.result() for future in [threads.submit(work) for _ in range(hashing_threads())]]
    return sum(busy for _, busy in found) / sum(done for done, _ in found)


def plan(
    contender: Contender, signup: Callable[[], bytes], login: Callable[[], bytes]
) -> dict[str, Measurement]:
    """Return the measurements of one program."""
    load = Load("127.0.0.1", contender.port, CONNECTIONS)

    def read() -> float:
        return sum(thread_seconds(contender.pid).values())

    return {
        "sign-up": Measurement(load, signup, read, want=201, settle=SETTLE),
        "login": Measurement(load, login, read),
    }


def show(found: dict[tuple[str, str], list[tuple[float, float, float]]]) -> None:
    """Print the median shares of each program and deed."""
    for (who, what), rounds in found.items():
        whole, alone, own = (median([row[column] for row in rounds]) for column in range(3))
        print(
            f"{who:<14} {what:<8} share {whole:.3f}, of the program alone {alone:.3f}; besides the hash {own:.1f} ms"
        )


def take_round(
    plans: dict[tuple[str, str], Measurement], cost: int, seconds: float
) -> dict[tuple[str, str], tuple[float, float, float]]:
    """Measure everything once, in turn."""
    found = {}
    for key, it in plans.items():
        hashing = measure_hash(cost, 1.0)
        servers = partial(sum_seconds, ("postgres", "beam"))
        before, others = it.read(), servers()
        done = len(it.load.run(it.make, seconds=seconds, want=it.want))
        time.sleep(it.settle)
        own, rest = (it.read() - before) / done, (servers() - others) / done
        hashing = (hashing + measure_hash(cost, 1.0)) / 2
        found[key] = hashing / (own + rest), hashing / own, (own + rest - hashing) * 1e3
    return found


def sum_seconds(names: tuple[str, ...]) -> float:
    """Return the processor seconds of the servers that all share."""
    return sum(map(named_seconds, names))


async def main(cost: int, rounds: int, seconds: float, *, broker: bool) -> None:
    """Start everything, measure in turn and print."""
    be_quiet()
    with short_folder() as folder, ExitStack() as stack:
        async with open_database(folder) as server:
            sink = stack.enter_context(open_sink(10**9))
            settings = {"bcrypt_cost": str(cost), "trusted_proxies": "127.0.0.1/32"}
            if broker:
                settings["amqp_url"] = stack.enter_context(open_broker())
            plans: dict[tuple[str, str], Measurement] = {}
            database = await new_database(server, "ours")
            opened = stack.enter_context(
                open_regsvc(folder, serve_settings(database, sink.url, **settings), role="all")
            )
            await add_users(database)
            people = [
                {"email": f"person{number}@example.org", "password": PASSWORD} for number in range(USERS)
            ]
            ours = plan(
                opened, sign_ups("/api/v1/register"), from_new_clients("POST", "/api/v1/login", people)
            )
            plans |= {("regsvc", what): it for what, it in ours.items()}
            if peers := install_peers():
                for name, shown in {"bare": "bare FastAPI", "users": "fastapi-users"}.items():
                    database = await new_database(server, f"peer_{name}")
                    smtp = sink.url.removeprefix("smtp://")
                    opened = stack.enter_context(
                        open_peer(folder, peers, name, database, cost=cost, smtp=smtp)
                    )
                    for what, it in (await plan_peer(opened, name)).items():
                        plans[shown, what] = it
            found: dict[tuple[str, str], list[tuple[float, float, float]]] = {key: [] for key in plans}
            for number in range(rounds + 1):
                taken = await trio.to_thread.run_sync(take_round, plans, cost, seconds)
                if number:  # the first one opens connections and compiles
                    for key, shares in taken.items():
                        found[key].append(shares)
            stack.close()
            show(found)
    print(f"cost {cost}; {describe_machine()}")


async def plan_peer(opened: Contender, name: str) -> dict[str, Measurement]:
    """Add a user to a peer and return its measurements."""
    person = {"email": "person@example.org", "password": PASSWORD}
    await ask(opened.port, "POST", "/register", person | {"name": "P"})
    if name == "users":
        form = f"username=person%40example.org&password={PASSWORD.replace(' ', '+')}".encode()
        fields = b"Host: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        login = b"POST /login HTTP/1.1\r\n%bContent-Length: %d\r\n\r\n%b" % (fields, len(form), form)
    else:
        login = write("POST", "/login", person)
    return plan(opened, sign_ups("/register"), lambda: login)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cost", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--broker", action="store_true", help="with a RabbitMQ node of the bench's own")
    chosen = parser.parse_args()
    run(partial(main, broker=chosen.broker), chosen.cost, chosen.rounds, chosen.seconds)
