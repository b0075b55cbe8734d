"""What thousands of waiting websockets cost at rest, and how soon a confirmation reaches one among them.

    python bench/crowd.py [--sockets 8000] [--seconds 30] [--people 2000]

So many clients follow one registration at one `regsvc serve --role api`, and answer its pings. First nothing happens
for a while, and the processor time of the server is counted. Then one person after the other waits there, too, and is
confirmed. The time is from sending the POST to reading the frame that says `confirmed`.
"""

from __future__ import annotations

import argparse
import resource

import trio
from clock import thread_seconds
from live_status import confirm
from stand import (
    Program,
    be_quiet,
    describe_machine,
    median,
    open_database,
    open_program,
    percentile,
    run,
    serve_settings,
    short_folder,
)
from websockets import AT_ONCE, SPARE, keep_alive, open_socket

SHARE, FRAME = 1.0, 10  # the goals: per cent of a core for 6,000 sockets, ms


async def main(sockets: int, seconds: float, people: int) -> None:
    """Open them all, and measure."""
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
                await measure(program, database, sockets, seconds, people)
    print(describe_machine())


async def measure(program: Program, database: str, sockets: int, seconds: float, people: int) -> None:
    """Print what the sockets cost at rest, and the delays of the confirmations."""
    client = program.client()
    body = {"email": "person@example.org", "password": "correct horse battery staple", "name": "Person"}
    _, headers, _ = await client.request("POST", "/api/v1/register", body)
    path, handle = headers["location"] + "/live", headers["regsvc-handle"]
    opened: list[trio.SocketStream] = []
    line = trio.Semaphore(AT_ONCE)

    async def open_one() -> None:
        async with line:
            opened.append(await open_socket(program, path, handle))

    async with trio.open_nursery() as keeping:
        keeping.start_soon(keep_alive, opened)
        async with trio.open_nursery() as nursery:
            for _ in range(sockets):
                nursery.start_soon(open_one)
        await trio.sleep(2)
        before = sum(thread_seconds(program.process.pid).values())
        await trio.sleep(seconds)
        spent = sum(thread_seconds(program.process.pid).values()) - before
        print(
            f"{sockets} idle sockets: {100 * spent / seconds:.2f} % of a core  (goal: {SHARE:g} % for 6,000)"
        )
        for number in range(10):  # statements are prepared
            await confirm(database, client, program, number)
        taken = [await confirm(database, client, program, number) for number in range(10, 10 + people)]
        keeping.cancel_scope.cancel()
    frames = [frame * 1000 for frame, _ in taken]
    if frames:
        print(
            f"frame among {sockets}: p50 {median(frames):.1f} ms, p95 {percentile(frames, 0.95):.1f} ms,"
            f" worst {max(frames):.1f} ms of {people}  (goal: p95 {FRAME} ms at most)"
        )
    for stream in opened:
        await trio.aclose_forcefully(stream)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sockets", type=int, default=8_000)
    parser.add_argument("--seconds", type=float, default=30, help="of rest")
    parser.add_argument("--people", type=int, default=2_000, help="who are confirmed; 0: none")
    chosen = parser.parse_args()
    run(main, chosen.sockets, chosen.seconds, chosen.people)
