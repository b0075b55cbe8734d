"""Start sending to webhooks when there is one. Until then a worker loads no HTTP client for it."""

from __future__ import annotations

from ipaddress import ip_network

import trio

from regsvc.accounts.events.sinks import list_receivers
from regsvc.config.settings import Settings
from regsvc.jobs.leading import AlwaysLead, Lead
from regsvc.postgres.pool import Pool
from regsvc.security.tokens import Secrets
from regsvc.waiting import wait_any

_LOOK_EVERY = 2.0  # seconds
LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))


async def run_webhooks_when_wanted(
    *,
    pool: Pool,
    conninfo: str,
    settings: Settings,
    secrets: Secrets,
    dev: bool,
    stopping: trio.Event,
    lead: Lead | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Wait for the first webhook, then run `run_webhooks`.

    Args:
        pool: PostgreSQL.
        conninfo: of the connection that receives notifications.
        settings: of this process.
        secrets: open the webhooks' secrets.
        dev: whether this is `regsvc dev`, where webhooks may reach this machine.
        stopping: ends the child.
        lead: whether this process polls often; by default it does.
        task_status: reports the start.

    Raises:
        DatabaseUnavailableError: the database is unavailable.
    """
    task_status.started()
    lead = lead or AlwaysLead()
    with lead.stand():
        while not stopping.is_set():
            async with pool.connection() as conn:
                if await list_receivers(conn):
                    break
            await wait_any(stopping.wait, lead.wait_turn, seconds=lead.pace(_LOOK_EVERY))
        else:
            return
        from regsvc.consumer.events.webhooks import WebhookSender, run_webhooks  # noqa: PLC0415 - as the module says

        sender = WebhookSender(
            secrets,
            settings.public_url,
            settings.webhooks_allow + (LOOPBACK if dev and not settings.webhooks_allow else ()),
            settings.events_address,
        )
        await run_webhooks(pool=pool, conninfo=conninfo, sender=sender, lead=lead, stopping=stopping)
