"""How many websockets there may be, and what ends them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection

from regsvc.accounts.registrations.registration import expire_registrations
from regsvc.http.websocket_limits import PER_CLIENT, PER_REGISTRATION
from regsvc.postgres.pool import Pool
from tests.services import Service, run_test_service
from tests.websockets import open_socket

LIMITED = {"REGSVC_RATE_LIMITS": "on", "REGSVC_TRUSTED_PROXIES": "127.0.0.0/8"}


@pytest.fixture
async def limited(database: str, tmp_path: Path) -> AsyncIterator[Service]:
    """A service that keeps its limits, behind a proxy on this machine: a test says which client it is."""
    async with run_test_service(database, tmp_path, LIMITED) as service:
        yield service


def socket_url(service: Service, signed_up: httpx.Response) -> str:
    return service.url.replace("http", "ws") + signed_up.headers["Location"] + "/live"


def come_from(address: str) -> list[tuple[bytes, bytes]]:
    return [(b"X-Forwarded-For", address.encode())]


async def show_handle(socket: WebSocketConnection, signed_up: httpx.Response) -> dict[str, Any]:
    """Send the handle and return the first frame."""
    await socket.send_message(json.dumps({"handle": signed_up.headers["Regsvc-Handle"]}))
    frame: dict[str, Any] = json.loads(await socket.get_message())
    return frame


async def read_end(socket: WebSocketConnection) -> tuple[list[str], int]:
    """Return the states that still come, and the code that the socket is closed with."""
    states = []
    with trio.fail_after(20), pytest.raises(ConnectionClosed) as closed:
        while True:
            states.append(json.loads(await socket.get_message())["state"])
    assert closed.value.reason is not None
    return states, int(closed.value.reason.code)


async def test_a_registration_has_ten_sockets_and_a_place_is_free_when_one_ends(limited: Service) -> None:
    signed_up = await limited.sign_up()
    url = socket_url(limited, signed_up)
    async with AsyncExitStack() as stack:
        for number in range(PER_REGISTRATION):
            options = {"extra_headers": come_from(f"192.0.{number}.1")}
            last = await stack.enter_async_context(open_socket(url, **options))
            await show_handle(last, signed_up)
        async with open_socket(url, extra_headers=come_from("192.0.100.1")) as one_too_many:
            handle = {"handle": signed_up.headers["Regsvc-Handle"]}
            await one_too_many.send_message(json.dumps(handle))
            assert await read_end(one_too_many) == ([], 4429)
        await last.aclose()
        await open_again(url, signed_up)


async def open_again(url: str, signed_up: httpx.Response) -> None:
    """Open a socket where one ended just now: its end is noticed when it is."""
    with trio.fail_after(20):
        while True:
            async with open_socket(url) as socket:
                try:
                    assert (await show_handle(socket, signed_up))["seq"] >= 1
                except ConnectionClosed:
                    continue
                return


async def test_a_client_has_fifty_sockets_whatever_they_are_for(limited: Service) -> None:
    several = [
        await limited.sign_up(f"a{number}@example.com") for number in range(PER_CLIENT // PER_REGISTRATION)
    ]
    url = socket_url(limited, several[0])
    async with AsyncExitStack() as stack:
        for number in range(PER_CLIENT):
            signed_up = several[number % len(several)]
            options = {"extra_headers": come_from(f"2001:db8::{number:x}")}
            socket = await stack.enter_async_context(open_socket(socket_url(limited, signed_up), **options))
            await show_handle(socket, signed_up)
        async with open_socket(url, extra_headers=come_from("2001:db8::ffff")) as one_too_many:
            assert await read_end(one_too_many) == ([], 4429)
        async with open_socket(url, extra_headers=come_from("2001:db8:1::1")) as of_another:
            await of_another.send_message("{}")
            assert await read_end(of_another) == ([], 4401)


async def test_the_networks_of_one_site_have_sockets_together(
    limited: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("regsvc.http.api.live_status.PER_SITE", 2)
    monkeypatch.setattr("regsvc.http.api.registrations.PER_SITE", 2)
    signed_up = await limited.sign_up()
    url, poll = socket_url(limited, signed_up), signed_up.headers["Location"] + "?wait=1"
    handle = {"Regsvc-Handle": signed_up.headers["Regsvc-Handle"]}
    async with AsyncExitStack() as stack:
        for number in (1, 2):
            headers = come_from(f"2001:db8:7:{number}::1")
            socket = await stack.enter_async_context(open_socket(url, extra_headers=headers))
            await show_handle(socket, signed_up)
        async with open_socket(url, extra_headers=come_from("2001:db8:7:3::1")) as one_too_many:
            assert await read_end(one_too_many) == ([], 4429)
        same = await limited.client.get(poll, headers=handle | {"X-Forwarded-For": "2001:db8:7:4::1"})
        assert (same.status_code, same.json()["code"]) == (429, "too_many_waiting")
        for other in ("2001:db8:8::1", "192.0.2.1"):
            async with open_socket(url, extra_headers=come_from(other)) as of_another:
                await of_another.send_message("{}")
                assert await read_end(of_another) == ([], 4401)


async def test_without_limits_a_registration_has_as_many_as_there_are(service: Service) -> None:
    signed_up = await service.sign_up()
    async with AsyncExitStack() as stack:
        for _ in range(PER_REGISTRATION + 2):
            socket = await stack.enter_async_context(open_socket(socket_url(service, signed_up)))
            assert (await show_handle(socket, signed_up))["seq"] >= 1


async def repudiate(service: Service, _pool: Pool) -> None:
    mail = await service.wait_mail()
    answer = await service.post("/confirm-email/repudiate", {"token": mail.token})
    assert answer.status_code == 200


async def expire(service: Service, pool: Pool) -> None:
    await service.wait_mail()
    async with pool.connection() as conn:
        await conn.execute(
            "UPDATE registrations SET expires_at = now(), created_at = now() - interval '9 days'"
        )
        await expire_registrations(conn, 10)


@pytest.mark.parametrize(("end", "state"), [(repudiate, "repudiated"), (expire, "expired")])
async def test_a_socket_ends_with_its_registration(
    service: Service, pool: Pool, end: Callable[[Service, Pool], Awaitable[None]], state: str
) -> None:
    signed_up = await service.sign_up()
    async with open_socket(socket_url(service, signed_up)) as socket:
        frame = await show_handle(socket, signed_up)
        while frame["state"] != "sent":
            frame = json.loads(await socket.get_message())
        await end(service, pool)
        assert await read_end(socket) == ([state], 1000)


async def test_a_handle_anywhere_but_in_the_first_message_opens_nothing(service: Service) -> None:
    """What stands in a URL is in logs, and other headers are not sent by a browser's websocket."""
    signed_up = await service.sign_up()
    handle = signed_up.headers["Regsvc-Handle"]
    url = f"{socket_url(service, signed_up)}?handle={handle}"
    headers = [(b"Regsvc-Handle", handle.encode())]
    async with open_socket(url, extra_headers=headers) as socket:
        await socket.send_message("{}")
        assert await read_end(socket) == ([], 4401)


async def test_a_long_poll_counts_like_a_websocket(limited: Service) -> None:
    """A cap on one way to wait would be none if there were another."""
    signed_up = await limited.sign_up()
    url = signed_up.headers["Location"]
    headers = {"Regsvc-Handle": signed_up.headers["Regsvc-Handle"]}
    seq = (await limited.client.get(url, headers=headers)).json()["seq"] + 99  # nothing that will come soon
    waiting = {"wait": 25, "seq": seq}
    answers: list[httpx.Response] = []
    answered = trio.Event()

    async def poll() -> None:
        answers.append(await limited.client.get(url, params=waiting, headers=headers, timeout=40))
        answered.set()

    async with trio.open_nursery() as nursery:
        for _ in range(PER_REGISTRATION + 1):
            nursery.start_soon(poll)
        with trio.fail_after(20):
            await answered.wait()
        nursery.cancel_scope.cancel()
    assert (answers[0].status_code, answers[0].json()["code"]) == (429, "too_many_waiting")
    assert int(answers[0].headers["Retry-After"]) > 0
    assert (await limited.client.get(url, headers=headers)).status_code == 200
