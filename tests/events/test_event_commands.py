"""An operator adds webhooks, tests them, repeats events and listens on their own machine."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import trio
from standardwebhooks import Webhook

from regsvc.postgres.pool import Pool
from tests.events.happenings import add_user, read_rows, rewind
from tests.mail.providers import ProviderServer
from tests.polling import wait_until
from tests.programs import clean_environ
from tests.services import SECRET, run_test_service
from tests.suite.commands import run_command

pytestmark = pytest.mark.timeout(120)


def environ(database: str, **more: str) -> dict[str, str]:
    """Return the environment of a command."""
    return clean_environ({"REGSVC_DATABASE_URL": database, "REGSVC_SECRET_KEY": SECRET, **more})


async def regsvc(database: str, *arguments: str, code: int = 0) -> str:
    """Run a command to its end and return what it prints."""
    done = await run_command(
        *arguments, environ={"REGSVC_DATABASE_URL": database, "REGSVC_SECRET_KEY": SECRET}
    )
    assert done.returncode == code, done.stderr.decode()
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    return str(done.stdout.decode())


async def test_a_webhook_is_added_tested_rotated_repeated_and_removed(
    database: str, pool: Pool, tmp_path: Path
) -> None:
    allow = {"REGSVC_WEBHOOKS_ALLOW": "127.0.0.0/8"}
    async with ProviderServer("resend").running() as server, run_test_service(database, tmp_path, allow):
        url = f"http://127.0.0.1:{server.port}/hook"
        made = json.loads(await regsvc(database, "webhooks", "add", url, "--type", "user.created", "--json"))
        assert made["secret"].startswith("whsec_")
        assert (await regsvc(database, "webhooks", "test", made["id"])).startswith("delivered")
        assert Webhook(made["secret"]).verify(server.requests[0].body, server.requests[0].headers) is not None
        user_id = await add_user(pool)
        await rewind(pool, "0 s")
        await wait_until(lambda: len(server.requests) == 2)
        newer = (await regsvc(database, "webhooks", "rotate", made["id"])).strip()
        assert (await regsvc(database, "webhooks", "replay", made["id"], "--since", "1h")).startswith("1 ")
        await rewind(pool, "0 s")
        await wait_until(lambda: len(server.requests) == 3)
        told = Webhook(newer).verify(server.requests[2].body, server.requests[2].headers)
        assert told["subject"] == f"user/{user_id}"
        shown = await regsvc(database, "webhooks", "list", made["id"], "--json")
        assert {each["type"] for each in json.loads(shown)["deliveries"]} == {"user.created", "webhook.test"}
        await regsvc(database, "webhooks", "remove", made["id"])
        assert "removed" in await regsvc(database, "webhooks", "list")
        await regsvc(database, "webhooks", "remove", made["id"], code=1)
    sealed = str(await read_rows(pool, "SELECT sealed, previous FROM event_sinks"))
    assert made["secret"] not in sealed


async def test_events_are_shown_on_the_machine_of_who_listens(
    database: str, pool: Pool, tmp_path: Path
) -> None:
    async with (
        run_test_service(database, tmp_path, {"REGSVC_WEBHOOKS_ALLOW": "127.0.0.1"}),
        trio.open_nursery() as nursery,
    ):
        process = await nursery.start(
            partial(
                trio.run_process,
                [sys.executable, "-m", "regsvc", "webhooks", "listen"],
                env=environ(database),
                stdout=subprocess.PIPE,
                check=False,
            )
        )
        seen = b""
        with trio.fail_after(30):
            while not re.search(rb"listening on .*\n", seen):
                seen += await process.stdout.receive_some()
            user_id = await add_user(pool)
            while str(user_id).encode() not in seen:
                seen += await process.stdout.receive_some()
            process.send_signal(signal.SIGINT)
            await process.wait()
    assert await read_rows(pool, "SELECT ended_reason FROM event_sinks") == [("removed",)]


async def test_an_exchange_that_is_not_configured_cannot_be_repeated_to(database: str) -> None:
    await regsvc(database, "events", "replay", "--since", "1h", code=78)
    await regsvc(database, "events", "replay", "--since", "yesterday", code=1)
