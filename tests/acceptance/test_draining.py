"""SIGTERM: what is in hand is finished, who waits is told, and nobody can hold the end up."""

from __future__ import annotations

import json
import signal
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import httpx
import psycopg
import trio

from tests.programs import run_program, serve_environ, talk_to
from tests.services import PASSWORD
from tests.smtp_servers import Hold, ScriptedServer

PROMISED = 25.0  # seconds from SIGTERM to the end
WEBSOCKETS = 1000
DEAF = 5


async def test_what_is_in_hand_at_a_sigterm_is_finished_and_readyz_says_so_at_once(
    database: str, tmp_path: Path
) -> None:
    accept = trio.Event()
    async with ScriptedServer({"DOT": Hold(accept)}).running() as smtp:
        environ = serve_environ(database, tmp_path, smtp_url=smtp.url, bcrypt_cost="13")
        async with (
            run_program("serve", folder=tmp_path, environ=environ) as program,
            talk_to(program, tmp_path) as service,
        ):
            signed_up = await service.sign_up()
            await smtp.wait(lambda: "DOT" in smtp.steps)
            answers: dict[str, httpx.Response] = {}

            async def log_in() -> None:
                answers["login"] = await service.post(
                    "/login", {"email": "x@example.com", "password": PASSWORD}
                )

            async def poll() -> None:
                answers["poll"] = await service.client.get(
                    f"{signed_up.headers['Location']}?wait=25",
                    headers={"Regsvc-Handle": signed_up.headers["Regsvc-Handle"]},
                )

            with trio.fail_after(PROMISED):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(log_in)
                    nursery.start_soon(poll)
                    await wait_busy(service.client)
                    program.process.send_signal(signal.SIGTERM)
                    await program.wait_log('"stopping"')
                    ready = await service.client.get("/readyz")
                    assert ready.status_code == 503
                    assert ready.json()["reason"] == "stopping"
                    assert int(ready.headers["Retry-After"]) > 0
                assert answers["login"].status_code == 401
                assert answers["poll"].json()["state"] == "sending"
                await program.wait_log("http drained")
                assert smtp.mails == []
                accept.set()
                assert await program.process.wait() == 0
            program.check_log()
            assert len(smtp.mails) == 1
            with psycopg.connect(database) as connection:
                assert connection.execute("SELECT state FROM mails").fetchall() == [("sent",)]


async def wait_busy(client: httpx.AsyncClient) -> None:
    """Wait until a password is being hashed and somebody waits for a change."""
    with trio.fail_after(10):
        while True:
            lines = (await client.get("/metrics")).text.splitlines()
            if 'regsvc_password_hashes{state="busy"} 1.0' in lines and "regsvc_live_waiters 1.0" in lines:
                return


class Crowd:
    """Clients that are there when it ends; closed together."""

    def __init__(self, port: int) -> None:
        self.websockets: list[trio.socket.SocketType] = []
        self._port = port
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    async def follow(self, signed_up: httpx.Response) -> None:
        """Open a websocket, show the handle, and read the first frame (RFC 6455 sections 4.1 and 5.2)."""
        sock = await self._connect(trio.socket.socket())
        upgrade = (
            f"GET {signed_up.headers['Location']}/live HTTP/1.1\r\nHost: localhost\r\n"
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        handle = json.dumps({"handle": signed_up.headers["Regsvc-Handle"]})
        masked_with_zeros = bytes([0x81, 0x80 | len(handle), 0, 0, 0, 0])
        await sock.send(upgrade.encode() + masked_with_zeros + handle.encode())
        received = b""
        while b'"state"' not in received:
            received += await sock.recv(4096)
        self.websockets.append(sock)

    async def ask_and_never_read(self) -> None:
        """Send requests until the server cannot get rid of its answers, and reads no more."""
        sock = trio.socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await self._connect(sock)
        blocked = False
        while not blocked:
            with trio.move_on_after(0.5) as scope:
                await sock.send(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100)
            blocked = scope.cancelled_caught

    async def _connect(self, sock: trio.socket.SocketType) -> trio.socket.SocketType:
        self._stack.callback(sock.close)
        await sock.connect(("127.0.0.1", self._port))
        return sock


async def test_clients_that_never_read_and_a_thousand_websockets_do_not_hold_up_the_end(
    database: str, tmp_path: Path
) -> None:
    async with (
        run_program("serve", folder=tmp_path, environ=serve_environ(database, tmp_path)) as program,
        talk_to(program, tmp_path) as service,
    ):
        signed_up = await service.sign_up()
        await service.wait_mail()
        await program.wait_log("mail accepted")
        with Crowd(int(program.url.rpartition(":")[2])) as crowd, trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for _ in range(WEBSOCKETS):
                    nursery.start_soon(crowd.follow, signed_up)
            async with trio.open_nursery() as nursery:
                for _ in range(DEAF):
                    nursery.start_soon(crowd.ask_and_never_read)
            assert await program.stop(seconds=PROMISED) == 0
            program.check_log()
            # Each was told why, and may come again elsewhere (RFC 6455 section 7.4.1).
            for sock in crowd.websockets:
                assert (await sock.recv(4096))[2:4] == (1012).to_bytes(2, "big")
