"""What `regsvc watch` makes of how a connection ends; the service is played by a script."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from trio_websocket import WebSocketConnection, WebSocketRequest, serve_websocket

from tests.programs import run_program

Answer = Callable[[WebSocketRequest], Awaitable[None]]


def refuse(status: int) -> Answer:
    """Return what refuses the handshake."""

    async def answer(request: WebSocketRequest) -> None:
        await request.reject(status)

    return answer


def show(*states: str, code: int) -> Answer:
    """Return what shows states and closes."""

    async def answer(request: WebSocketRequest) -> None:
        socket: WebSocketConnection = await request.accept()
        await socket.get_message()
        for seq, state in enumerate(states, 1):
            await socket.send_message(json.dumps({"seq": seq, "state": state, "at": "now"}))
        await socket.aclose(code)

    return answer


@asynccontextmanager
async def play(answers: Sequence[Answer]) -> AsyncIterator[str]:
    """Answer one connection after the other; gives the URL of a registration."""
    script = iter(answers)

    async def handle(request: WebSocketRequest) -> None:
        await next(script)(request)

    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve_websocket, handle, "127.0.0.1", 0, None)
        yield f"http://127.0.0.1:{server.port}/api/v1/registrations/x"
        nursery.cancel_scope.cancel()


async def follow(folder: Path, *answers: Answer) -> tuple[int, list[str]]:
    """Watch a service that answers so, and return the exit code and what was said."""
    async with (
        play(answers) as url,
        run_program("watch", url, "--handle", "x", folder=folder, ready=False) as program,
    ):
        with trio.fail_after(30):
            return await program.process.wait(), program.log().splitlines()


async def test_a_proxy_that_answers_for_a_restarting_service_is_tried_again(tmp_path: Path) -> None:
    code, said = await follow(
        tmp_path, show("queued", code=1012), refuse(503), show("queued", "confirmed", code=1000)
    )
    assert (code, said) == (0, ["now  queued", "now  confirmed"])


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (refuse(403), "the service answered 403"),
        (show("queued", code=1000), "this registration no longer exists"),
        (show(code=4401), "the handle does not belong to it"),
    ],
    ids=["refused", "gone", "wrong handle"],
)
async def test_what_no_new_try_would_change_ends_it_and_is_said(
    tmp_path: Path, answer: Answer, why: str
) -> None:
    code, said = await follow(tmp_path, answer)
    assert code == 1
    assert why in said[-1]


async def test_what_became_of_an_accepted_mail_is_told(tmp_path: Path) -> None:
    """When it was delivered, or how and why it bounced."""
    frames = (
        {"seq": 1, "state": "sent", "at": "t1", "delivered_at": "t0"},
        {"seq": 2, "state": "bounced", "at": "t2", "reason": "mailbox_full", "bounce": {"kind": "soft"}},
        {"seq": 3, "state": "confirmed", "at": "t3"},
    )

    async def answer(request: WebSocketRequest) -> None:
        socket: WebSocketConnection = await request.accept()
        await socket.get_message()
        for frame in frames:
            await socket.send_message(json.dumps(frame))
        await socket.aclose(1000)

    code, said = await follow(tmp_path, answer)
    assert code == 0
    assert said == [
        "t1  sent  delivered_at t0",
        "t2  bounced  reason mailbox_full  bounce soft",
        "t3  confirmed",
    ]
