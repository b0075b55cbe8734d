"""Clients that hang up at any moment, thousands of them: nothing of theirs stays behind, and others are served."""

from __future__ import annotations

import json
import random
import re
import socket
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

import psycopg
import trio

from tests.polling import wait_until
from tests.programs import Program, run_program, serve_environ, talk_to
from tests.services import PASSWORD, Service

REQUESTS = 10_000
AT_ONCE = 8
PATIENCE = 0.01  # seconds, on the average
RESET = struct.pack("ii", 1, 0)


def head(line: str, *fields: str) -> bytes:
    """Return a request without a body."""
    return "\r\n".join([f"{line} HTTP/1.1", "Host: localhost", *fields, "", ""]).encode()


def post(path: str, body: object) -> bytes:
    """Return a request with JSON."""
    data = json.dumps(body).encode()
    return head(f"POST {path}", "Content-Type: application/json", f"Content-Length: {len(data)}") + data


def websocket(path: str, handle: str) -> bytes:
    """Return the upgrade to a websocket, and its first frame (RFC 6455 section 5.2, masked with zeros)."""
    message = json.dumps({"handle": handle}).encode()
    upgrade = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
    return head(f"GET {path}", *upgrade, key) + bytes([0x81, 0x80 | len(message), 0, 0, 0, 0]) + message


async def make_requests(service: Service) -> Sequence[bytes]:
    """Return requests of all kinds, each of which would succeed."""
    signed_up = await service.sign_up("bob@example.com")
    await service.confirm()
    token = (await service.log_in())["Authorization"]
    where, handle = signed_up.headers["Location"], signed_up.headers["Regsvc-Handle"]
    login = {"email": "ann@example.com", "password": PASSWORD}
    return (
        post("/api/v1/register", {**login, "email": "eve@example.com", "name": "Eve"}),
        post("/api/v1/login", login),
        head("GET /api/v1/me", f"Authorization: {token}"),
        head(f"GET {where}?wait=25", f"Regsvc-Handle: {handle}"),
        websocket(f"{where}/live", handle),
        post("/api/v1/confirm-email", {"token": (await service.wait_mail()).token}),
    )


async def hang_up(port: int, request: bytes, chance: random.Random) -> None:
    """Send a request or a part of it, and go away without reading, now or a little later."""
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    cut = len(request) if chance.random() < 0.8 else chance.randrange(len(request))
    await stream.send_all(request[:cut])
    # Some leave before they are looked at, most are in the middle, and a few are just being answered.
    await trio.sleep(min(chance.expovariate(1 / PATIENCE), 10 * PATIENCE))
    if chance.random() < 0.5:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    stream.socket.close()


def gauge(text: str, name: str) -> float:
    """Return a value of `/metrics`."""
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    assert found, text
    return float(found[1])


def count_files(program: Program) -> int:
    """Return how many files and sockets a program has open."""
    return len(list(Path(f"/proc/{program.process.pid}/fd").iterdir()))


async def wait_zero(service: Service, *names: str) -> None:
    """Wait until nothing is counted any more."""
    with trio.fail_after(20):
        while True:
            text = (await service.client.get("/metrics")).text
            if not any(gauge(text, name) for name in names):
                return
            await trio.sleep(0.05)


async def test_ten_thousand_clients_that_hang_up_leave_nothing_behind(database: str, tmp_path: Path) -> None:
    chance = random.Random(20261122)
    async with (
        run_program("serve", folder=tmp_path, environ=serve_environ(database, tmp_path)) as program,
        talk_to(program, tmp_path) as service,
    ):
        requests = await make_requests(service)
        port = int(program.url.rpartition(":")[2])
        before = count_files(program)

        async def go_on(left: Iterator[int]) -> None:
            for _ in left:
                await hang_up(port, chance.choice(requests), chance)

        left = iter(range(REQUESTS))
        async with trio.open_nursery() as nursery:
            for _ in range(AT_ONCE):
                nursery.start_soon(go_on, left)

        await wait_zero(
            service,
            'regsvc_database_connections{state="in_use"}',
            'regsvc_database_connections{state="waiting"}',
            'regsvc_password_hashes{state="busy"}',
            'regsvc_password_hashes{state="waiting"}',
            "regsvc_live_waiters",
        )
        # Connections to the database that were opened meanwhile are kept; those to clients are not.
        await wait_until(lambda: count_files(program) <= before + 8 + 4)
        with psycopg.connect(database, autocommit=True) as connection:
            states = connection.execute(
                "SELECT state, count(*) FROM pg_stat_activity WHERE datname = current_database()"
                " AND application_name LIKE 'regsvc %' GROUP BY state"
            ).fetchall()
        assert [state for state, _ in states] == ["idle"]
        assert states[0][1] <= 8 + 4 + 3  # two pools; for changes, for due mails and for readiness one each
        await service.log_in()
        await service.sign_up("zoe@example.com")
        await service.wait_mail("zoe@example.com")
        program.check_log()
        assert program.events("request failed") == []
        assert program.events("connection failed") == []
        assert await program.stop() == 0
