"""What a request costs in processor time: regsvc, its released version 0.2.0, and bare FastAPI with asyncpg.

    python bench/me.py [--rounds 15] [--seconds 0.3]

All three run at the same time on one PostgreSQL, each with a database of its own, and are asked in short windows in
turn (see `bench/clock.py`). A ratio is the median over the rounds. With `every token new` each request has an access
token that was never seen before; a login comes from a client of its own, so that all its limits are counted.
"""

from __future__ import annotations

import argparse
import json
from contextlib import ExitStack
from functools import partial
from itertools import count
from typing import TYPE_CHECKING
from uuid import UUID

import jwt
import trio
from clock import Load, Measurement, loop_seconds, measure, microseconds, ratio, thread_seconds
from contenders import install_peers, install_released, open_peer, open_regsvc
from stand import (
    SECRET,
    Client,
    be_quiet,
    describe_machine,
    execute,
    median,
    new_database,
    open_database,
    run,
    serve_settings,
    short_folder,
)

from regsvc.postgres.connection import Connection
from regsvc.security.passwords import HashingLane
from regsvc.security.signing.access_token import AccessToken
from regsvc.security.signing.key_store import load_key_ring
from regsvc.security.tokens import Secrets

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from clock import Window
    from contenders import Contender

USERS = 100  # each logs in in turn: of one address only so many attempts may be under way
ADDRESS, PASSWORD = "person0@example.org", "correct horse battery staple"
CONNECTIONS = 8
COST = 10  # of bcrypt
ME, ME_NEW, ME_ALONE = "GET /me", "GET /me, every token new", "GET /me, 1 connection"
# What is asked besides, with the greatest ratio to the released version that is wanted.
PATHS = {
    "GET /healthz": 0.25,
    "POST /confirm-email, bad token": 0.5,
    "GET /signup": 0.45,
    "GET a registration": 0.4,
    "POST /login, the loop alone": 0.5,
}
Asked = dict[str, Measurement]


def write(method: str, path: str, body: object = None, **headers: str) -> bytes:
    """Return a request; `_` in the name of a header stands for `-`."""
    content = b"" if body is None else json.dumps(body).encode()
    fields = {"Host": "127.0.0.1", "Content-Length": str(len(content))} | headers
    fields |= {"Content-Type": "application/json"} if content else {}
    lines = (f"{name.replace('_', '-')}: {value}" for name, value in fields.items())
    return "\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode() + content


def from_new_clients(method: str, path: str, bodies: Sequence[object]) -> Callable[[], bytes]:
    """Return what makes a request with one of the bodies, of a client that never asked before."""
    numbers = count(1)

    def make() -> bytes:
        number = next(numbers)
        address = f"11.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
        return write(method, path, bodies[number % len(bodies)], X_Forwarded_For=address)

    return make


async def ask(port: int, method: str, path: str, body: object) -> tuple[dict[str, str], dict[str, str]]:
    """Send one request and return the JSON object of its answer, and the headers."""
    client = Client("127.0.0.1", port)
    status, headers, content = await client.request(method, path, body)
    await client.aclose()
    if status not in (200, 201):
        raise SystemExit(f"{path} was answered with {status}: {content!r}")
    return json.loads(content), headers


async def add_users(database: str) -> None:
    """Insert users who can log in."""
    pepper, peppers = Secrets(SECRET.encode(), None).peppers()
    async with HashingLane(cost=COST, pepper=pepper, peppers=peppers) as lane:
        hashed = await lane.hash(PASSWORD)
    await execute(
        database,
        """
        INSERT INTO users (id, email, email_key, name, password_hash)
        SELECT gen_random_uuid(), email, email, 'P', %s
          FROM generate_series(0, %s - 1) AS n, format('person%%s@example.org', n) AS email
        """,
        hashed,
        USERS,
    )


def whole(contender: Contender) -> Callable[[], float]:
    """Return what reads the processor seconds of a program."""
    return lambda: sum(thread_seconds(contender.pid).values())


async def plan_regsvc(contender: Contender, database: str, *, released: bool) -> Asked:
    """Return what regsvc, new or released, is asked. Tokens are made for the new one alone: it knows its own schema."""
    await add_users(database)
    port, read = contender.port, whole(contender)
    body = {"email": ADDRESS, "password": PASSWORD}
    token = (await ask(port, "POST", "/api/v1/login", body))[0]["access_token"]
    _, headers = await ask(
        port, "POST", "/api/v1/register", {"email": "new@example.org", "password": PASSWORD, "name": "New"}
    )
    handle = headers["regsvc-handle"]
    path = headers["location"]
    bad = {"token": "A" * 64 + "x"}
    many = Load("127.0.0.1", port, CONNECTIONS)
    requests = {
        ME: write("GET", "/api/v1/me", Authorization=f"Bearer {token}"),
        "GET /healthz": write("GET", "/healthz"),
        "GET /signup": write("GET", "/signup"),
        "GET a registration": write("GET", path, Regsvc_Handle=handle),
    }
    asked = {name: Measurement(many, partial(bytes, request), read) for name, request in requests.items()}
    asked[ME_ALONE] = Measurement(Load("127.0.0.1", port, 1), partial(bytes, requests[ME]), read)
    if not released:
        async with await Connection.connect(database) as conn:
            ring = await load_key_ring(conn, Secrets(SECRET.encode()), "http://localhost:8080")
        sign = partial(ring.sign, _read_claims(token))
        asked[ME_NEW] = Measurement(
            many, lambda: write("GET", "/api/v1/me", Authorization=f"Bearer {sign()}"), read
        )
    confirm = from_new_clients("POST", "/api/v1/confirm-email", [bad])
    asked["POST /confirm-email, bad token"] = Measurement(many, confirm, read, want=400)
    bodies = [{"email": f"person{number}@example.org", "password": PASSWORD} for number in range(USERS)]
    login = from_new_clients("POST", "/api/v1/login", bodies)
    asked["POST /login, the loop alone"] = Measurement(many, login, partial(loop_seconds, contender.pid))
    return asked


def _read_claims(token: str) -> AccessToken:
    claims = jwt.decode(token, options={"verify_signature": False})
    return AccessToken(UUID(claims["sub"]), UUID(claims["sid"]), claims["role"])


async def plan_peer(contender: Contender) -> Asked:
    """Return what the peer is asked."""
    body = {"email": ADDRESS, "password": PASSWORD}
    await ask(contender.port, "POST", "/register", body | {"name": "P"})
    token = (await ask(contender.port, "POST", "/login", body))[0]["access_token"]
    request, read = write("GET", "/me", Authorization=f"Bearer {token}"), whole(contender)
    return {
        ME: Measurement(Load("127.0.0.1", contender.port, CONNECTIONS), lambda: request, read),
        ME_ALONE: Measurement(Load("127.0.0.1", contender.port, 1), lambda: request, read),
    }


def show(found: dict[tuple[str, str], list[Window]]) -> None:
    """Print what was found."""
    names = dict.fromkeys(name for _, name in found)
    print(f"{'processor time of a request, us':<34}{'regsvc':>9}{'0.2.0':>9}{'FastAPI':>9}")
    for name in names:
        row = [found.get((who, name)) for who in ("regsvc", "0.2.0", "FastAPI")]
        print(f"{name:<34}" + "".join(f"{microseconds(it):>9.0f}" if it else f"{'-':>9}" for it in row))
    if ("0.2.0", ME) in found:
        print("by 0.2.0:")
        for name in names:
            if ("0.2.0", name) not in found:
                continue
            goal = f"  (goal: {PATHS[name]} at most)" if name in PATHS else ""
            print(f"  {name:<32}{ratio(found['regsvc', name], found['0.2.0', name]):>9.2f}{goal}")
    if ("FastAPI", ME) in found:
        peer = found["FastAPI", ME]
        p50 = [
            median([t for it in found[who, ME_ALONE] for t in it.taken]) * 1e3
            for who in ("regsvc", "FastAPI")
        ]
        print("by bare FastAPI:")
        print(f"  {ME:<32}{ratio(found['regsvc', ME], peer):>9.2f}  (goal: 0.7 at most)")
        print(f"  {ME_NEW:<32}{ratio(found['regsvc', ME_NEW], peer):>9.2f}  (goal: 1.0 at most)")
        print(
            f"  {ME_ALONE + ', p50':<32}{p50[0] / p50[1]:>9.2f}  (goal: 1.2 at most; {p50[0]:.2f} and {p50[1]:.2f} ms)"
        )
    print(describe_machine())


async def main(rounds: int, seconds: float) -> None:
    """Start everything, measure in turn and print."""
    be_quiet()
    with short_folder() as folder, ExitStack() as stack:
        async with open_database(folder) as server:
            contenders: dict[str, Asked] = {}
            released, peers = install_released(), install_peers()
            for name, version in {"regsvc": None, "0.2.0": released}.items():
                if name == "0.2.0" and released is None:
                    continue
                database = await new_database(server, f"a{len(contenders)}")
                settings = serve_settings(
                    database,
                    f"maildir:{folder / 'mail'}",
                    bcrypt_cost=str(COST),
                    trusted_proxies="127.0.0.1/32",
                )
                opened = stack.enter_context(open_regsvc(folder, settings, role="api", released=version))
                contenders[name] = await plan_regsvc(opened, database, released=version is not None)
            if peers:
                database = await new_database(server, "peer")
                opened = stack.enter_context(open_peer(folder, peers, "bare", database, cost=COST))
                contenders["FastAPI"] = await plan_peer(opened)
            asked = {(who, name): it for who, plan in contenders.items() for name, it in plan.items()}
            found = await trio.to_thread.run_sync(partial(measure, asked, rounds=rounds, seconds=seconds))
            stack.close()
            show(found)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=0.3, help="length of a window")
    chosen = parser.parse_args()
    run(main, chosen.rounds, chosen.seconds)
