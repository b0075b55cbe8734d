"""Administrators add webhooks, see deliveries and repeat them; it needs a proof, and every administrator is told."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from standardwebhooks import Webhook

from regsvc.postgres.pool import Pool
from tests.events.happenings import add_user, rewind
from tests.http.administrators import ADMIN, log_in_admin
from tests.mail.providers import ProviderServer
from tests.polling import wait_until
from tests.services import run_test_service

pytestmark = pytest.mark.timeout(60)
PATH = "/api/v1/admin/webhooks"


async def test_a_webhook_is_added_used_and_removed(database: str, pool: Pool, tmp_path: Path) -> None:
    allow = {"REGSVC_WEBHOOKS_ALLOW": "127.0.0.0/8"}
    async with (
        ProviderServer("resend").running() as server,
        run_test_service(database, tmp_path, allow) as service,
    ):
        client, url = service.client, f"http://127.0.0.1:{server.port}/hook"
        admin = await log_in_admin(service, pool)
        refused = await client.post(PATH, json={"url": url}, headers=admin)
        assert (refused.status_code, refused.json()["code"]) == (403, "proof_needed")
        await service.prove(admin)
        for body in ({"url": "ftp://example.com/"}, {"url": url, "types": ["user.imagined"]}, {}):
            assert (await client.post(PATH, json=body, headers=admin)).status_code == 400
        made = (await client.post(PATH, json={"url": url, "types": ["user.created"]}, headers=admin)).json()
        told = await service.wait_mail(ADMIN, number=2)
        assert "webhook was added" in told.text
        user_id = await add_user(pool)
        await rewind(pool, "0 s")
        await wait_until(lambda: server.requests)
        event = Webhook(made["secret"]).verify(server.requests[0].body, server.requests[0].headers)
        assert event["subject"] == f"user/{user_id}"
        one = f"{PATH}/{made['id']}"
        with trio.fail_after(10):
            while True:
                (sent,) = (await client.get(f"{one}/deliveries", headers=admin)).json()["deliveries"]
                if sent["state"] == "delivered":
                    break
        again = await client.post(f"{one}/deliveries/{sent['id']}/replay", headers=admin)
        assert again.status_code == 204
        await rewind(pool, "0 s")
        await wait_until(lambda: len(server.requests) == 2)
        assert server.requests[0].headers["webhook-id"] == server.requests[1].headers["webhook-id"]
        assert (await client.post(f"{one}/test", headers=admin)).status_code == 202
        newer = (await client.post(f"{one}/rotate", headers=admin)).json()["secret"]
        assert newer != made["secret"]
        listed = (await client.get(PATH, headers=admin)).json()
        assert made["secret"] not in str(listed)
        assert listed["webhooks"][0]["types"] == ["user.created"]
        assert (await client.delete(one, headers=admin)).status_code == 204
        gone = await client.delete(one, headers=admin)
        assert (gone.status_code, gone.json()["code"]) == (404, "webhook_not_found")
        absent = await client.post(f"{one}/deliveries/{made['id']}/replay", headers=admin)
        assert (absent.status_code, absent.json()["code"]) == (404, "delivery_not_found")


async def test_no_other_user_sees_webhooks(database: str, pool: Pool, tmp_path: Path) -> None:
    async with run_test_service(database, tmp_path) as service:
        await service.confirm()
        ann = await service.log_in()
        await service.prove(ann)
        assert (await service.client.get(PATH, headers=ann)).status_code == 403
        answer = await service.client.post(PATH, json={"url": "https://example.com/"}, headers=ann)
        assert answer.status_code == 403
