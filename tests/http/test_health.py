"""What the operator's networks see of the parts."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest
import trio

from regsvc.http.health import standing
from regsvc.postgres.connection import Connection
from tests.services import PASSWORD, Service, run_test_service


async def test_the_mail_servers_reply_is_shown_without_what_is_private_in_it(service: Service) -> None:
    async with await Connection.connect(service.settings.database_url.get_secret_value()) as conn:
        await conn.execute(
            """
            UPDATE mail_breaker
               SET open = true, reason = 'policy_refused', opened_at = now(), probe_at = now() + interval '1 hour',
                   reply = '550 5.7.1 ann@example.com may not send, token=abcdefgh'
            """
        )
    shown = (await service.client.get("/readyz")).json()["mail_breaker"]
    assert shown["reason"] == "policy_refused"
    assert shown["reply"] == "550 5.7.1 a***@example.com may not send, token=***"


async def test_mails_that_are_due_are_counted_to_a_limit(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the whole service, whichever process is asked: workers are scaled by it."""
    monkeypatch.setattr(standing, "_MOST_DUE", 3)
    async with run_test_service(database, tmp_path, {"REGSVC_ROLE": "api"}) as service:
        for number, due in ((0, "0"), (1, "1"), (2, "2"), (3, "3"), (4, "3")):
            if number:
                await service.sign_up(f"ann{number}@example.com")
            text = (await service.client.get("/metrics")).text
            assert re.findall(r"^regsvc_due_mails (\d+)", text, re.MULTILINE) == [due]


async def test_strangers_see_neither_metrics_nor_the_parts(database: str, tmp_path: Path) -> None:
    """Behind a proxy as well, which is on this machine and says whom it speaks for."""
    environ = {"REGSVC_TRUSTED_PROXIES": "127.0.0.0/8", "REGSVC_METRICS_ALLOW": "198.51.100.0/24"}
    async with run_test_service(database, tmp_path, environ) as service:
        for client, allowed in (("198.51.100.7", True), ("203.0.113.7", False), ("127.0.0.1", False)):
            headers = {"X-Forwarded-For": client}
            metrics = await service.client.get("/metrics", headers=headers)
            ready = await service.client.get("/readyz", headers=headers)
            assert ready.status_code == 200
            assert (set(ready.json()) == {"status"}) is not allowed
            assert metrics.status_code == (200 if allowed else 403)
            assert ("regsvc_" in metrics.text) is allowed
            assert metrics.headers["cache-control"] == "no-store"
            assert allowed or metrics.json()["code"] == "client_not_allowed"


async def test_nobody_sees_metrics_where_nobody_shall(database: str, tmp_path: Path) -> None:
    async with run_test_service(database, tmp_path, {"REGSVC_METRICS_ALLOW": "none"}) as service:
        assert (await service.client.get("/metrics")).status_code == 403


async def test_more_requests_than_connections_are_degraded_and_take_nobody_out_of_service(
    database: str, tmp_path: Path
) -> None:
    """A load balancer that took each full process out would fill the others."""
    async with run_test_service(database, tmp_path, {"REGSVC_DATABASE_POOL_HTTP": "1"}) as service:

        async def press_on() -> None:
            while True:
                await service.post("/login", {"email": "ann@example.com", "password": PASSWORD})

        async def ask() -> httpx.Response:
            answer = await service.client.get("/readyz")
            assert answer.status_code == 200, answer.text
            return answer

        async def wait_status(status: str) -> None:
            with trio.fail_after(20):
                while (shown := (await ask()).json())["status"] != status:  # noqa: ASYNC110 - the question is HTTP
                    await trio.sleep(0.02)
            assert {child["state"] for child in shown["children"].values()} == {"running"}
            assert not shown["mail_breaker"]["open"]

        await wait_status("ok")
        async with await Connection.connect(database) as conn, trio.open_nursery() as nursery:
            async with conn.transaction():
                await conn.execute("LOCK TABLE users")
                for _ in range(3):
                    nursery.start_soon(press_on)
                await wait_status("degraded")
            nursery.cancel_scope.cancel()
        await wait_status("ok")
