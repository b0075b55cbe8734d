"""The janitor: ends registrations whose time is over and deletes what is not needed any more.

No chore does more than fits: each takes so many rows at once as end within half a second, and leaves the rest to its
next batch. So a backlog, however large, is worked off instead of failing at every try.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import psycopg
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
from regsvc.accounts.sessions.session import purge_legacy_tokens, purge_sessions
from regsvc.accounts.users.email_change import purge_moves
from regsvc.errors import DatabaseUnavailableError
from regsvc.postgres.connection import Connection
from regsvc.postgres.pool import Pool
from regsvc.security.key_store import purge_keys
from regsvc.waiting import wait_any

log = structlog.get_logger()

EVERY = 10.0  # seconds between rounds
BATCH = 500  # rows a statement at most: locks stay short
LONG = (
    0.5  # seconds; a batch that takes longer is halved before it stops fitting into what a statement may take
)
SHARE = 5.0  # seconds a round that one chore may take, so that a backlog of one holds up no other

Chore = Callable[[Connection, int], Awaitable[int]]
CHORES: tuple[tuple[str, Chore], ...] = (
    ("registrations expired", expire_registrations),
    ("registrations purged", purge_registrations),
    ("mails of no registration purged", purge_nobodys_mails),
    ("address changes purged", purge_moves),
    ("refresh tokens purged", purge_legacy_tokens),
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
    chores: Sequence[tuple[str, Chore]] = CHORES,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Do every chore every few seconds until `stopping` is set; several janitors do not get in each other's way.

    A chore that fails lets the next one go. Its batch is halved, down to one row, and doubles again while it fits.

    Args:
        pool: the database.
        stopping: ends the janitor after the chore in hand.
        chores: a description for the log, and a function that takes a connection and a batch size and returns the
            number of rows it ended or deleted.
        task_status: set once it has begun.

    Raises:
        DatabaseUnavailableError: no chore of a round came through: the database is away.
        ExceptionGroup: chores of a round failed by a bug, after all others had their turn.
    """
    task_status.started()
    rota = [_Turn(description, chore) for description, chore in chores]
    while not stopping.is_set():
        failures: list[Exception] = []
        for turn in rota:
            try:
                await turn.take(pool, stopping)
            except (DatabaseUnavailableError, psycopg.Error) as error:
                failures.append(error)
                log.warning("chore failed", chore=turn.description, batch=turn.batch, error=str(error))
            except Exception as error:  # noqa: BLE001 - raised below: a bug in one chore is no reason to skip the next
                failures.append(error)
        if bugs := [error for error in failures if not isinstance(error, DatabaseUnavailableError)]:
            raise ExceptionGroup("chores failed", bugs)
        if len(failures) == len(rota):
            raise failures[-1]
        if not any(turn.more for turn in rota):
            await wait_any(stopping.wait, seconds=EVERY)


class _Turn:
    """A chore and the number of rows that it may take on at once."""

    def __init__(self, description: str, chore: Chore) -> None:
        self.description = description
        self.batch = BATCH
        self.more = False  # there was more to do when its share of the round was over
        self._chore = chore

    async def take(self, pool: Pool, stopping: trio.Event) -> None:
        """Do the chore until nothing is left, its share of the round is over, or it fails.

        Raises:
            DatabaseUnavailableError: a batch did not fit; the next one is half as large.
        """
        self.more = False
        total, end = 0, trio.current_time() + SHARE
        try:
            while not stopping.is_set():
                size, began = self.batch, trio.current_time()
                try:
                    async with pool.connection() as conn:
                        done = await self._chore(conn, size)
                except DatabaseUnavailableError:
                    self.batch = max(1, size // 2)
                    raise
                total += done
                took = trio.current_time() - began
                self.batch = max(1, size // 2) if took > LONG else min(BATCH, size * 2)
                if done < size:
                    return
                if trio.current_time() >= end:
                    self.more = True
                    return
        finally:
            if total:
                log.info(self.description, count=total)
