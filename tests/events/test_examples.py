"""The examples work: each is started as its text says, and does its work with a service."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest
import trio

from regsvc.consumer.events.exchange import run_event_exchange
from regsvc.postgres.pool import Pool
from regsvc.webhooks.signature import mint_secret
from tests.events.happenings import SOURCE, add_receiver, add_user, sending
from tests.programs import clean_environ
from tests.services import PASSWORD, run_test_service
from tests.suite.ports import take_port

pytestmark = pytest.mark.timeout(60)
EXAMPLES = Path(__file__).parents[2] / "examples"


class Example:
    """A running example, and what it printed."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._seen = b""

    async def wait_line(self, pattern: str) -> re.Match[bytes]:
        """Wait until it has printed what matches."""
        assert self._process.stdout is not None
        with trio.fail_after(20):
            while not (found := re.search(pattern.encode(), self._seen)):
                more = await self._process.stdout.receive_some()
                assert more, self._seen.decode()
                self._seen += more
        return found


@asynccontextmanager
async def running(name: str, *arguments: str, **environ: str) -> AsyncIterator[Example]:
    """Run an example as long as the block lasts."""
    async with trio.open_nursery() as nursery:
        run = partial(
            trio.run_process,
            [sys.executable, str(EXAMPLES / name), *arguments],
            env=clean_environ(environ),
            stdout=subprocess.PIPE,
            check=False,
        )
        example = Example(await nursery.start(run))
        await example.wait_line("listening")
        yield example
        nursery.cancel_scope.cancel()


async def test_the_receiver_takes_an_event_once_and_no_forged_one(pool: Pool, database: str) -> None:
    port = take_port()
    _, secret = await add_receiver(pool, f"http://127.0.0.1:{port}/")
    async with running("webhook_receiver.py", str(port), WEBHOOK_SECRET=secret) as example:
        async with sending(pool, database):
            user_id = await add_user(pool)
            await example.wait_line(f"user.created user/{user_id}")
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}")
        assert b" 401 " in await stream.receive_some()
        await stream.aclose()


async def test_the_hook_refuses_a_domain_and_lets_others_through(database: str, tmp_path: Path) -> None:
    port, secret = take_port(), mint_secret()
    hook = {
        "REGSVC_HOOK_BEFORE_SIGNUP": f"http://127.0.0.1:{port}/",
        "REGSVC_HOOK_BEFORE_SIGNUP_SECRET": secret,
        "REGSVC_HOOK_BEFORE_SIGNUP_FAIL": "closed",
    }
    async with (
        running("signup_hook.py", str(port), HOOK_SECRET=secret),
        run_test_service(database, tmp_path, hook) as service,
    ):
        await service.sign_up()
        body = {"email": "ann@competitor.com", "password": PASSWORD, "name": "Ann"}
        refused = await service.post("/register", body)
        assert refused.json()["code"] == "signup_refused"
        assert refused.json()["detail"] == "Please ask our sales team for an account."


async def test_the_consumer_gets_events_from_the_exchange(pool: Pool, database: str, amqp_url: str) -> None:
    exchange, stopping = f"regsvc.events.{uuid4()}", trio.Event()
    async with (
        running("exchange_consumer.py", amqp_url, exchange, f"consumer.{exchange}", "user.*") as example,
        trio.open_nursery() as nursery,
    ):
        publish = partial(
            run_event_exchange,
            pool=pool,
            conninfo=database,
            url=amqp_url,
            exchange=exchange,
            source=SOURCE,
            stopping=stopping,
        )
        await nursery.start(publish)
        user_id = await add_user(pool)
        await example.wait_line(f"user.created user/{user_id}")
        stopping.set()
