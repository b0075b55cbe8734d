"""From pressing the link at one process to the frame on a websocket of another.

    python bench/live_status.py [--people 200]

Two `regsvc serve --role api` on one database. One person after the other waits at the second process on a websocket
of their own; their address is confirmed at the first. The time is from sending the POST to reading the frame that says
`confirmed`, by one machine's clock; what the POST itself took is printed beside it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Awaitable, Callable, Mapping
from uuid import uuid4

from stand import (
    SECRET,
    Client,
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
from websockets import expect, open_socket

from regsvc.security.tokens import Secrets, mint_handle, mint_link_token

SECRETS = Secrets(SECRET.encode())
GOAL = 150  # ms

_SENT = """
    INSERT INTO registrations (id, email, email_key, name, locale, password_hash, origin, client, state, expires_at)
    VALUES (%s, %s, %s, 'Person', 'en', 'none', '192.0.2.0/24', 'curl', 'sent', now() + interval '1 day')
"""


async def confirm(database: str, here: Client, there: Program, number: int) -> tuple[float, float]:
    """Let somebody wait there and be confirmed here; return the seconds to the frame and to the answer."""
    registration, address = uuid4(), f"person{number}@example.org"
    await execute(database, _SENT, registration, address, address)
    path = f"/api/v1/registrations/{registration}/live"
    stream = await open_socket(there, path, mint_handle(SECRETS, registration))
    async with stream:
        token = mint_link_token(SECRETS, registration, address)
        begun = time.perf_counter()
        status, _, content = await here.request("POST", "/api/v1/confirm-email", {"token": token})
        answered = time.perf_counter()
        if status != 200:
            raise SystemExit(f"confirming was answered with {status} {content.decode()}")
        await expect(stream, b'"confirmed"')
        return time.perf_counter() - begun, answered - begun


async def measure(
    people: int,
    settings: Mapping[str, str],
    event: Callable[[str, Client, Program, int], Awaitable[tuple[float, float]]],
    goal: int,
) -> None:
    """Let an event happen at one process while its person waits at another, one after the other; print the delays.

    Args:
        people: how many.
        settings: of both processes, beside the usual ones.
        event: takes the database, a client of the first process, the second process and a number; returns the seconds
            to the frame and to the answer.
        goal: milliseconds to the frame at most, p95.
    """
    be_quiet()
    with short_folder() as folder:
        async with open_database(folder) as database:
            environ = serve_settings(database, f"maildir:{folder / 'mail'}", rate_limits="off", **settings)
            with (
                open_program(folder, "serve", "--role", "api", environ=environ) as first,
                open_program(folder, "serve", "--role", "api", environ=environ) as second,
            ):
                client = first.client()
                for number in range(10):  # connections are opened, statements prepared
                    await event(database, client, second, number)
                taken = [await event(database, client, second, number) for number in range(10, 10 + people)]
    frames, answers = ([seconds * 1000 for seconds in column] for column in zip(*taken, strict=True))
    print(
        f"frame   p50 {median(frames):.1f} ms, p95 {percentile(frames, 0.95):.1f} ms, worst {max(frames):.1f} ms"
        f" of {people}  (goal: p95 {goal} ms at most)"
    )
    print(f"answer  p50 {median(answers):.1f} ms, p95 {percentile(answers, 0.95):.1f} ms")
    print(describe_machine())


def read_people(about: str | None) -> int:
    """Return how many people the command line asks for."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=200)
    people: int = parser.parse_args().people
    return people


async def main(people: int) -> None:
    """Confirm one after the other."""
    await measure(people, {}, confirm, GOAL)


if __name__ == "__main__":
    run(main, read_people(__doc__))
