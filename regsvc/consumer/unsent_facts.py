"""Show attempts without a mail of their own what is due, and look again at how receiver families fare."""

from __future__ import annotations

import math

import structlog
import trio

from regsvc.accounts.deliveries.families import refresh_families
from regsvc.accounts.deliveries.radar import list_echoes, refresh_radar
from regsvc.accounts.deliveries.unsent import show_due_facts
from regsvc.jobs.leading import AlwaysLead, Lead
from regsvc.metrics import FAMILY_ASTRAY
from regsvc.postgres.pool import Pool
from regsvc.waiting import wait_any

log = structlog.get_logger()

BATCH = 200
_POLL = 1.0  # seconds at most between two looks
_SELDOM = 5.0  # where another process leads: what is shown late would tell which attempts have no mail
_REFRESH = 60.0  # seconds between two looks at the families


async def run_unsent_facts(
    *,
    pool: Pool,
    stopping: trio.Event,
    lead: Lead | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Show what is due until `stopping` is set; several processes do not conflict.

    Args:
        pool: PostgreSQL.
        stopping: ends the child.
        lead: whether this process looks often, and at the families; by default it does.
        task_status: reports the start.

    Raises:
        DatabaseUnavailableError: the database is unavailable.
    """
    task_status.started()
    lead = lead or AlwaysLead()
    refreshed = -_REFRESH
    with lead.stand():
        while not stopping.is_set():
            if trio.current_time() - refreshed >= _REFRESH:
                await _look_at_families(pool, leads=lead.ours)
                refreshed = trio.current_time()
            async with pool.transaction() as conn:
                seconds = await show_due_facts(conn, BATCH)
            await wait_any(
                stopping.wait,
                lead.wait_turn,
                seconds=min(
                    math.inf if seconds is None else max(seconds, 0.01), lead.pace(_POLL, seldom=_SELDOM)
                ),
            )


async def _look_at_families(pool: Pool, *, leads: bool) -> None:
    """Look how many people confirm soon, and tell the operator when a receiver family leaves its band or is back."""
    async with pool.connection() as conn:
        if leads:
            await refresh_families(conn)
        turned = await refresh_radar(conn) if leads else []
        echoes = await list_echoes(conn)
    for echo in echoes:
        FAMILY_ASTRAY.labels(echo.family).set(echo.astray)
    for echo in turned:
        say = log.warning if echo.astray else log.info
        say(
            "receiver family astray" if echo.astray else "receiver family back",
            family=echo.family,
            confirmed=round(echo.recent_share, 2),
            usual=round(echo.usual_share, 2),
        )
