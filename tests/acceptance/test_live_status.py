"""Somebody waits at one process for what happens at another."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import trio
from trio_websocket import WebSocketConnection

from tests.databases import run_sql
from tests.programs import run_program, serve_environ, talk_to
from tests.services import Service
from tests.websockets import open_socket


@pytest.fixture
async def apis(database: str, tmp_path: Path) -> AsyncIterator[tuple[Service, Service]]:
    """Two processes on one database."""
    environ = serve_environ(database, tmp_path)
    async with (
        run_program("serve", folder=tmp_path, environ=environ) as first,
        run_program("serve", "--role", "api", folder=tmp_path, environ=environ) as second,
        talk_to(first, tmp_path) as one,
        talk_to(second, tmp_path) as other,
    ):
        yield one, other
        first.check_log()
        second.check_log()


@asynccontextmanager
async def open_live(service: Service, signed_up: httpx.Response) -> AsyncIterator[WebSocketConnection]:
    """Follow a registration at a process."""
    url = f"{service.url.replace('http', 'ws')}{signed_up.headers['Location']}/live"
    async with open_socket(url) as socket:
        await socket.send_message(json.dumps({"handle": signed_up.headers["Regsvc-Handle"]}))
        yield socket


async def wait_state(socket: WebSocketConnection, state: str) -> None:
    """Wait for a frame with a state; `seq` rises with every frame."""
    seq = 0
    with trio.fail_after(10):
        while True:
            frame = json.loads(await socket.get_message())
            assert frame["seq"] > seq
            seq = frame["seq"]
            if frame["state"] == state:
                return


async def test_what_is_confirmed_at_one_process_is_shown_at_another(apis: tuple[Service, Service]) -> None:
    one, other = apis
    signed_up = await one.sign_up()
    mail = await one.wait_mail()
    async with open_live(other, signed_up) as socket, trio.open_nursery() as nursery:
        await wait_state(socket, "sent")
        # The poll may come before or after; both are answered with the truth.
        nursery.start_soon(one.post, "/confirm-email", {"token": mail.token})
        shown = await other.client.get(
            f"{signed_up.headers['Location']}?wait=25",
            headers={"Regsvc-Handle": signed_up.headers["Regsvc-Handle"]},
        )
        assert shown.json()["state"] == "confirmed"
        await wait_state(socket, "confirmed")


async def test_the_first_frame_after_the_listener_was_cut_off_is_the_truth(
    apis: tuple[Service, Service], database: str
) -> None:
    one, other = apis
    signed_up = await one.sign_up()
    mail = await one.wait_mail()
    async with open_live(other, signed_up) as socket:
        await wait_state(socket, "sent")
        # What happens before it listens again is notified to nobody.
        run_sql(
            database,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'regsvc listener'",
        )
        assert (await one.post("/confirm-email", {"token": mail.token})).status_code == 200
        frame = json.loads(await socket.get_message())
        assert frame["state"] == "confirmed"
