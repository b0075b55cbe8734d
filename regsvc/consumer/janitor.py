"""The janitor: ends registrations whose time is over and deletes what nobody needs any more."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog
import trio

from regsvc.accounts.audit.record import purge_audit
from regsvc.accounts.limits.code_attempts import purge_code_attempts
from regsvc.accounts.limits.idempotency import purge_idempotency_keys
from regsvc.accounts.limits.login_attempts import purge_login_tries
from regsvc.accounts.limits.mail_schedule import purge_schedules
from regsvc.accounts.limits.rate_limit import purge_throttles
from regsvc.accounts.mails.legacy import purge_nobodys_mails
from regsvc.accounts.registrations.registration import expire_registrations, purge_registrations
from regsvc.accounts.sessions.session import purge_sessions
from regsvc.accounts.users.email_change import purge_moves
from regsvc.postgres.connection import Connection
from regsvc.postgres.pool import Pool
from regsvc.security.key_store import purge_keys
from regsvc.waiting import wait_any

log = structlog.get_logger()

EVERY = 10.0  # seconds between rounds
BATCH = 500  # rows a statement: locks stay short

_Chore = Callable[[Connection, int], Awaitable[int]]
_CHORES: tuple[tuple[str, _Chore], ...] = (
    ("registrations expired", expire_registrations),
    ("registrations purged", purge_registrations),
    ("mails of no registration purged", purge_nobodys_mails),
    ("address changes purged", purge_moves),
    ("sessions purged", purge_sessions),
    ("mail schedules purged", purge_schedules),
    ("code tries purged", purge_code_attempts),
    ("limits purged", purge_throttles),
    ("log-in tries purged", purge_login_tries),
    ("idempotency keys purged", purge_idempotency_keys),
    ("audit events purged", purge_audit),
    ("signing keys purged", purge_keys),
)


async def run_janitor(
    *,
    pool: Pool,
    stopping: trio.Event,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Do every chore every few seconds until `stopping` is set; several janitors do not get in each other's way.

    Raises:
        DatabaseUnavailableError: the database is away.
    """
    task_status.started()
    while not stopping.is_set():
        for event, chore in _CHORES:
            await _do(pool, event, chore)
        await wait_any(stopping.wait, seconds=EVERY)


async def _do(pool: Pool, event: str, chore: _Chore) -> None:
    total = 0
    while True:
        async with pool.connection() as conn:
            done = await chore(conn, BATCH)
        total += done
        if done < BATCH:
            break
    if total:
        log.info(event, count=total)
