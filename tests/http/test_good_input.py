"""Odd input that is good all the same."""

from __future__ import annotations

import json
from uuid import uuid4

import pytest
import trio
from trio_websocket import ConnectionClosed

from tests.services import PASSWORD, Service
from tests.websockets import open_socket


@pytest.mark.parametrize(
    "password",
    [
        "12345678",
        "p" * 72,
        "p" * 73,
        "p" * 128,
        "密码很长" * 16,
        "nul \u0000 inside",
        "🔑" * 8,
        " spaces  count ",
    ],
    ids=repr,
)
async def test_a_password_of_any_characters_logs_in_and_its_neighbour_does_not(
    shared_service: Service, password: str
) -> None:
    address = f"{uuid4()}@example.com"
    await shared_service.confirm(address, password)
    await shared_service.log_in(address, password)
    for other in (password[:-1] + "x", password + "x", password[:72] + "y"):
        answer = await shared_service.post("/login", {"email": address, "password": other})
        assert answer.status_code == 401


@pytest.mark.parametrize(
    "address",
    ["a@example.com", "ann+tag@example.com", "o'brien@example.com", "müller@exämple.de", "δοκιμή@example.com",
     "ann@sub.example.museum", "a" * 64 + "@example.com", "ANN@EXAMPLE.COM"],
)  # fmt: skip
async def test_addresses_that_mail_can_go_to_are_taken(shared_service: Service, address: str) -> None:
    await shared_service.sign_up(address)


async def test_fields_that_nobody_knows_are_ignored_at_a_sign_up(shared_service: Service) -> None:
    answer = await shared_service.post(
        "/register", {"email": "a@example.com", "password": PASSWORD, "name": "Ann", "admin": True}
    )
    assert answer.status_code == 201


async def test_forty_frames_that_nobody_reads_do_not_hold_up_the_close(shared_service: Service) -> None:
    address = f"{uuid4()}@example.com"
    signed_up = await shared_service.sign_up(address)
    url = shared_service.url.replace("http", "ws") + signed_up.headers["Location"] + "/live"
    async with open_socket(url) as socket:
        await socket.send_message(json.dumps({"handle": signed_up.headers["Regsvc-Handle"]}))
        for _ in range(40):
            await socket.send_message("unasked")
        mail = await shared_service.wait_mail(address)
        await shared_service.post("/confirm-email", {"token": mail.token})
        with trio.fail_after(10), pytest.raises(ConnectionClosed) as closed:
            while True:
                await socket.get_message()
    assert closed.value.reason is not None
    assert closed.value.reason.code == 1000
