"""One client's many requests wait for each other, not everybody else behind them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import trio

from regsvc.http.turns import AT_ONCE, Turns
from regsvc.http.websocket_limits import TooManyWaitingError
from regsvc.postgres.connection import Connection
from tests.services import Service, run_test_service

LIMITED = {"REGSVC_RATE_LIMITS": "on", "REGSVC_TRUSTED_PROXIES": "127.0.0.0/8"}
GREEDY, OTHER = {"X-Forwarded-For": "192.0.2.1"}, {"X-Forwarded-For": "192.0.2.2"}


@pytest.fixture
async def limited(database: str, tmp_path: Path) -> AsyncIterator[Service]:
    """A service that keeps its limits, behind a proxy on this machine: a test says which client it is."""
    async with run_test_service(database, tmp_path, LIMITED) as service:
        yield service


async def count_busy(service: Service) -> int:
    """Return how many requests use a connection to PostgreSQL or wait for one."""
    text = (await service.client.get("/metrics")).text
    return sum(
        int(float(number))
        for number in re.findall(
            r'^regsvc_database_connections\{state="(?:in_use|waiting)"\} (\S+)$',
            text,
            re.MULTILINE,
        )
    )


async def test_a_client_with_many_slow_requests_waits_for_its_own_and_others_do_not(limited: Service) -> None:
    signed_up = await limited.sign_up()
    url = signed_up.headers["Location"]
    handle = {"Regsvc-Handle": signed_up.headers["Regsvc-Handle"]}
    done = trio.Event()

    async with (
        httpx.AsyncClient(
            base_url=limited.url, timeout=30, limits=httpx.Limits(max_connections=None)
        ) as crowd,
        await Connection.connect(limited.settings.database_url.get_secret_value()) as conn,
        trio.open_nursery() as nursery,
    ):

        async def ask_slow() -> None:
            await crowd.get(url, headers={**GREEDY, **handle})

        async def ask_cheap() -> None:
            # Of its form alone it is refused: nothing that is slow has a part in it.
            assert (await crowd.get("/api/v1/registrations/none", headers=GREEDY)).status_code == 404
            done.set()

        async with conn.transaction():
            await conn.execute(b"LOCK TABLE registrations IN ACCESS EXCLUSIVE MODE")
            for _ in range(AT_ONCE):
                nursery.start_soon(ask_slow)
            with trio.fail_after(20):
                while await count_busy(limited) < AT_ONCE:  # noqa: ASYNC110 - a gauge has no event
                    await trio.sleep(0.01)
            nursery.start_soon(ask_cheap)
            for _ in range(10):
                answer = await crowd.get("/api/v1/registrations/none", headers=OTHER)
                assert answer.status_code == 404
            assert not done.is_set()
        with trio.fail_after(20):
            await done.wait()


async def test_a_turn_that_does_not_come_is_an_error_and_one_that_ends_early_is_the_next_ones() -> None:
    turns = Turns(at_once=1, patience=0.05)
    async with turns.taken("a") as end:
        with pytest.raises(TooManyWaitingError):
            async with turns.taken("a"):
                pass
        async with turns.taken("b"):
            pass
        end()
        async with turns.taken("a"):
            end()
            with pytest.raises(TooManyWaitingError):
                async with turns.taken("a"):
                    pass


async def test_turns_are_given_back_by_requests_that_were_cancelled_and_first_come_first_served() -> None:
    turns = Turns(at_once=1, patience=10)
    order: list[int] = []

    async def take(number: int) -> None:
        async with turns.taken("a"):
            order.append(number)

    async with trio.open_nursery() as nursery, turns.taken("a"):
        with trio.move_on_after(0.01):
            await take(0)  # hangs up while it waits
        for number in (1, 2, 3):
            nursery.start_soon(take, number)
            await trio.testing.wait_all_tasks_blocked()
    assert order == [1, 2, 3]
    with trio.fail_after(1):
        await take(4)
