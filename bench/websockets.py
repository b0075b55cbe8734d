"""The memory that an idle websocket costs the server.

    python bench/websockets.py [--sockets 10000]

So many clients follow one registration over `/api/v1/registrations/{id}/live`, each with its handshake, its first frame
and the current state read, and then say nothing. What grows is the resident memory of `regsvc serve --role api`; the
clients are in this process. Each end needs a file: `ulimit -n` has to be above the number.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import struct
import time
from base64 import b64encode

import trio
from stand import (
    Program,
    be_quiet,
    describe_machine,
    open_database,
    open_program,
    run,
    serve_settings,
    short_folder,
)

AT_ONCE = 50  # handshakes
SPARE = 200  # files
PONG = 15.0  # seconds


async def open_socket(program: Program, path: str, handle: str) -> trio.SocketStream:
    """Follow the registration and return the connection once the current state has come (RFC 6455)."""
    client = program.client()
    stream = await trio.open_tcp_stream(client.host, client.port)
    await stream.send_all(
        f"GET {path} HTTP/1.1\r\nHost: {client.host}:{client.port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {b64encode(os.urandom(16)).decode()}\r\n\r\n".encode()
    )
    await expect(stream, b"101 ")
    content, mask = json.dumps({"handle": handle}).encode(), os.urandom(4)
    masked = bytes(octet ^ mask[number % 4] for number, octet in enumerate(content))
    await stream.send_all(struct.pack("!BB", 0x81, 0x80 | len(content)) + mask + masked)
    await expect(stream, b'"state"')
    return stream


async def expect(stream: trio.SocketStream, words: bytes) -> None:
    """Read until the server has said something."""
    said = b""
    while words not in said:
        octets = await stream.receive_some()
        if not octets:
            raise SystemExit(f"the server closed a socket after {said!r}")
        said += octets


async def keep_alive(opened: list[trio.SocketStream]) -> None:
    """Send everybody's Pong from time to time: the server ends sockets that are silent for 45 s."""
    while True:
        await trio.sleep(PONG)
        for stream in list(opened):
            await stream.send_all(b"\x8a\x80\0\0\0\0")


async def main(sockets: int) -> None:
    """Open them all, wait a little, and print."""
    be_quiet()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if sockets + SPARE > most:
        raise SystemExit(f"`ulimit -n` allows {most} files: too few for {sockets} sockets")
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with short_folder() as folder:
        async with open_database(folder) as database:
            settings = serve_settings(
                database, f"maildir:{folder / 'mail'}", bcrypt_cost="10", rate_limits="off"
            )
            with open_program(folder, "serve", "--role", "api", environ=settings) as program:
                await measure(program, sockets)
    print(describe_machine())


async def measure(program: Program, sockets: int) -> None:
    """Open the sockets and read the memory before and after."""
    body = {"email": "person@example.org", "password": "correct horse battery staple", "name": "Person"}
    _, headers, _ = await program.client().request("POST", "/api/v1/register", body)
    path, handle = headers["location"] + "/live", headers["regsvc-handle"]
    opened = [await open_socket(program, path, handle) for _ in range(20)]  # whatever is only needed once
    before, begun = program.resident(), time.perf_counter()
    line = trio.Semaphore(AT_ONCE)

    async def open_one() -> None:
        async with line:
            opened.append(await open_socket(program, path, handle))

    async with trio.open_nursery() as keeping:
        keeping.start_soon(keep_alive, opened)
        async with trio.open_nursery() as nursery:
            for _ in range(sockets):
                nursery.start_soon(open_one)
        seconds = time.perf_counter() - begun
        await trio.sleep(1)
        keeping.cancel_scope.cancel()
    each = (program.resident() - before) / sockets / 1000
    print(f"{before / 1e6:.1f} MB before, {program.resident() / 1e6:.1f} MB with {sockets} more sockets")
    print(f"{each:.1f} kB a socket  (goal: 4 kB at most); {sockets / seconds:.0f} handshakes/s")
    for stream in opened:
        await trio.aclose_forcefully(stream)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sockets", type=int, default=10_000)
    run(main, parser.parse_args().sockets)
