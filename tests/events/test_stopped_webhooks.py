"""A webhook is disabled by hand, or because nothing was delivered for days; what it missed is sent on request."""

from __future__ import annotations

from datetime import timedelta

import pytest

from regsvc.accounts.events import webhooks
from regsvc.accounts.events.replay import cancel_deliveries, request_replay
from regsvc.accounts.events.sinks import purge_sinks
from regsvc.accounts.events.webhooks import WebhookNotInUseError
from regsvc.consumer.events import webhooks as sender
from regsvc.postgres.pool import Pool
from tests.events.happenings import OPERATOR, add_receiver, add_user, change_user, read_rows, rewind, sending
from tests.events.test_webhooks import hook, wait_row, wait_states
from tests.mail.providers import ProviderServer, stay_silent
from tests.polling import wait_until

pytestmark = pytest.mark.timeout(60)
_NOTICES = "SELECT about FROM mails WHERE kind = 'security' ORDER BY created_at"


async def add_admin(pool: Pool) -> None:
    """Add an administrator, who is told of what happens to webhooks."""
    await change_user(pool, await add_user(pool), role="admin")


async def test_a_disabled_webhook_gets_nothing_and_what_it_missed_on_request(
    pool: Pool, database: str
) -> None:
    await add_admin(pool)
    async with ProviderServer("resend", [(503, {}, b"")]).running() as server, sending(pool, database):
        webhook_id, _ = await add_receiver(pool, hook(server))
        ann = await add_user(pool)
        await wait_states(pool, "delayed")
        async with pool.transaction() as conn:
            for _ in range(2):  # the second changes nothing
                await webhooks.disable_webhook(conn, webhook_id, OPERATOR)
        async with pool.connection() as conn:
            await cancel_deliveries(conn, 500)
        await change_user(pool, ann, name="Bea")
        assert await read_rows(pool, "SELECT state FROM event_deliveries") == [("cancelled",)]
        assert await read_rows(pool, "SELECT type FROM events ORDER BY n") == [
            ("user.created",),
            ("user.updated",),
        ]
        shown = await show(pool, webhook_id)
        assert (shown.disabled_reason, shown.waiting) == ("administrator", 0)
        with pytest.raises(WebhookNotInUseError):
            shown.check_used()
        ((since,),) = await read_rows(pool, "SELECT min(at) - interval '1 s' FROM events")
        async with pool.transaction() as conn:
            await webhooks.enable_webhook(conn, webhook_id, OPERATOR)
            await request_replay(conn, webhook_id, since)
        await wait_states(pool, "delivered", "delivered")
        assert {request.document["type"] for request in server.requests[1:]} == {
            "user.created",
            "user.updated",
        }
        assert server.requests[0].headers["webhook-id"] in {
            each.headers["webhook-id"] for each in server.requests[1:]
        }
        assert (await show(pool, webhook_id)).replay_at is None
    assert await read_rows(pool, _NOTICES) == [("webhook_added",), ("webhook_changed",), ("webhook_changed",)]


async def show(pool: Pool, webhook_id: object) -> webhooks.Webhook:
    """Return a webhook as administrators see it."""
    async with pool.connection() as conn:
        (found,) = [each for each in await webhooks.list_webhooks(conn) if each.id == webhook_id]
    return found


@pytest.mark.parametrize(("days", "disabled"), [(4, False), (5, True)])
async def test_a_receiver_that_took_nothing_for_five_days_is_disabled_and_administrators_told(
    pool: Pool, database: str, days: int, *, disabled: bool
) -> None:
    """When a delivery is given up: one failure after a quiet month disables nothing."""
    await add_admin(pool)
    async with ProviderServer("resend", [(503, {}, b"")] * 10).running() as server, sending(pool, database):
        webhook_id, _ = await add_receiver(pool, hook(server))
        await add_user(pool)
        await wait_row(pool, "SELECT FROM event_deliveries WHERE state = 'delayed'")
        async with pool.connection() as conn:
            await conn.execute(
                "UPDATE event_sinks SET failing_since = now() - %s", [timedelta(days=days, minutes=1)]
            )
            await conn.execute("UPDATE event_deliveries SET attempts = 8")
        await rewind(pool, "25 h")
        await wait_until(lambda: len(server.requests) == 2)
        await wait_row(pool, "SELECT FROM event_deliveries WHERE state = 'delayed' AND attempts = 9")
        assert (await show(pool, webhook_id)).disabled_at is None
        await rewind(pool, "25 h")
        await wait_states(pool, "dead")
        shown = await show(pool, webhook_id)
        assert (shown.given_up, shown.disabled_reason) == (1, "failing" if disabled else None)
    told = [about for (about,) in await read_rows(pool, _NOTICES)]
    assert told == ["webhook_added", *(["webhook_stopped"] if disabled else [])]


async def test_administrators_are_told_that_a_receiver_is_gone(pool: Pool, database: str) -> None:
    await add_admin(pool)
    async with ProviderServer("resend", [(410, {}, b"")]).running() as server, sending(pool, database):
        await add_receiver(pool, hook(server))
        await add_user(pool)
        await wait_row(pool, "SELECT FROM event_sinks WHERE ended_reason = 'gone'")
    assert await read_rows(pool, _NOTICES) == [("webhook_added",), ("webhook_stopped",)]


async def test_a_receiver_has_fifteen_seconds(
    pool: Pool, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sender.SECONDS == 15
    monkeypatch.setattr(sender, "SECONDS", 0.2)
    async with ProviderServer("resend", [stay_silent]).running() as server, sending(pool, database):
        await add_receiver(pool, hook(server))
        await add_user(pool)
        await wait_states(pool, "delayed")
    assert await read_rows(pool, "SELECT status, reason FROM event_deliveries") == [(None, "timeout")]


async def test_a_webhook_that_ended_is_deleted_once_none_of_its_deliveries_is_left(pool: Pool) -> None:
    kept, _ = await add_receiver(pool, "https://example.com/")
    await add_user(pool)
    gone, _ = await add_receiver(pool, "https://example.com/")
    in_use, _ = await add_receiver(pool, "https://example.com/")
    async with pool.transaction() as conn:
        for each in (kept, gone):
            await webhooks.remove_webhook(conn, each, OPERATOR)
    async with pool.connection() as conn:
        await conn.execute("UPDATE event_sinks SET ended_at = ended_at - interval '31 days'")
        assert await purge_sinks(conn, 500) == 1
    assert {each for (each,) in await read_rows(pool, "SELECT id FROM event_sinks")} == {kept, in_use}
    async with pool.connection() as conn:
        assert [each.id for each in await webhooks.list_webhooks(conn)] == [in_use, kept]
