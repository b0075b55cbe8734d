"""Talks to the server as anybody might, and counts what comes of it; `make fuzz` does so for long."""

from __future__ import annotations

import re
import resource
import socket
import struct
import time
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

import click
import trio

from regsvc.http.server.events import Listening
from regsvc.http.server.server import Limits
from tests.http.application import DEADLINE
from tests.http.fuzzing import make_conversation
from tests.http.serving import serving

if TYPE_CHECKING:
    from tests.http.fuzzing import Conversation
    from tests.http.serving import Served

AT_A_TIME = 64
IMPATIENT = Limits(
    header_seconds=0.1,
    body_seconds=0.1,
    keep_alive=0.1,
    send_seconds=0.5,
    linger_seconds=0.1,
    ping=0.05,
    silence=0.1,
    take_seconds=0.05,
)
RESET = struct.pack("ii", 1, 0)


@dataclass
class Outcome:
    """What came of so many connections.

    Args:
        statuses: of the answers that clients read.
        logged: of the answers that the server gave.
        caught: exceptions that ended one connection.
        restarts: of the listener.
        alive: the server answers in the end.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    logged: Counter[int] = field(default_factory=Counter)
    caught: int = 0
    restarts: int = 0
    alive: bool = False


async def fuzz(connections: int, seed: int) -> Outcome:
    """Make so many connections to a server of one's own."""
    random, outcome = Random(seed), Outcome()
    async with serving(IMPATIENT) as served:
        served.happenings.note("release")
        places = trio.Semaphore(AT_A_TIME)
        async with trio.open_nursery() as nursery:
            for _ in range(connections):
                await places.acquire()
                nursery.start_soon(_hold, served, make_conversation(random), places, outcome.statuses)
                _count(served, outcome)
        await served.wait_until(lambda: served.server.statistics().open == 0)
        outcome.alive = (await served.ask("GET / HTTP/1.1")).status == 200
        _count(served, outcome)
        outcome.caught = served.server.statistics().caught
        outcome.restarts = sum(isinstance(event, Listening) for event in served.events) - 1
    return outcome


def _count(served: Served, outcome: Outcome) -> None:
    """Count the answers that the server gave, and forget them."""
    outcome.logged.update(line.status for line in served.requests if line.status is not None)
    served.requests.clear()


async def _hold(
    served: Served, conversation: Conversation, places: trio.Semaphore, statuses: Counter[int]
) -> None:
    stream = await trio.open_tcp_stream(*served.address)
    try:
        with trio.fail_after(DEADLINE):
            async with trio.open_nursery() as nursery:
                if not conversation.deaf:
                    nursery.start_soon(_listen, stream, statuses)
                await _speak(stream, conversation)
                if conversation.ending != "wait":
                    nursery.cancel_scope.cancel()
            if conversation.ending == "half-close":
                await _listen(stream, statuses)
    finally:
        await trio.aclose_forcefully(stream)
        places.release()


async def _speak(stream: trio.SocketStream, conversation: Conversation) -> None:
    try:
        for piece in conversation.pieces:
            await stream.send_all(piece)
            await trio.lowlevel.checkpoint()
        if conversation.ending == "half-close":
            await stream.send_eof()
        elif conversation.ending == "reset":
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    except trio.BrokenResourceError:
        pass  # the server had enough


async def _listen(stream: trio.SocketStream, statuses: Counter[int]) -> None:
    received = b""
    try:
        async for data in stream:
            received += data
    except trio.BrokenResourceError:
        pass  # the server had enough
    statuses.update(int(status) for status in re.findall(rb"HTTP/1\.1 ([0-9]{3}) ", received))


@click.command()
@click.option("--connections", type=click.IntRange(1), default=100_000, show_default=True)
@click.option("--seed", default=20260401, show_default=True, help="What they say.")
@click.option("--minutes", default=60.0, show_default=True, help="At the most.")
def main(connections: int, seed: int, minutes: float) -> None:
    """Make so many connections and print what came of it; exit code 1 if anything ended that should not have."""

    async def run() -> Outcome:
        with trio.fail_after(minutes * 60):
            return await fuzz(connections, seed)

    began = time.monotonic()
    outcome = trio.run(run)
    rows = {
        "connections": f"{connections:,} in {time.monotonic() - began:.0f} s, seed {seed}",
        "answers": ", ".join(f"{status}: {n:,}" for status, n in sorted(outcome.logged.items())),
        "answers that clients read": f"{outcome.statuses.total():,}",
        "exceptions that ended a connection": f"{outcome.caught}",
        "listener restarts": f"{outcome.restarts}",
        "peak memory, clients included": f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MiB",
    }
    click.echo("\n".join(f"| {name} | {value} |" for name, value in rows.items()))
    seen = set(outcome.statuses) | set(outcome.logged)
    raise SystemExit(1 if outcome.caught or outcome.restarts or not outcome.alive or 500 in seen else 0)


if __name__ == "__main__":
    main()
