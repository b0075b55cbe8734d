"""What the operator's networks see of the parts."""

from __future__ import annotations

from pathlib import Path

from regsvc.postgres.connection import Connection
from tests.services import Service, run_test_service


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
