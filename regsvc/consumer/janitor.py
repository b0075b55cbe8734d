"""The janitor: expires registrations and deletes rows past retention.

Each chore works in batches sized to end within half a second, so a backlog of any size is worked off instead of failing
at every attempt.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import psycopg
import structlog
import trio

from regsvc.accounts.audit.record import purge_audit
from regsvc.accounts.deliveries.suppression import purge_suppressions
from regsvc.accounts.deliveries.tokens import purge_tokens
from regsvc.accounts.events.replay import cancel_deliveries, purge_events
from regsvc.accounts.events.sinks import end_unseen, purge_sinks
from regsvc.accounts.factors.guesses import purge_guesses
from regsvc.accounts.factors.passkey_challenges import purge_challenges
from regsvc.accounts.factors.pending_logins import purge_pending_logins
from regsvc.accounts.factors.totp import purge_totp_setups
from regsvc.accounts.identities.login_codes import purge_codes
from regsvc.accounts.invitations.invitation import purge_invitations, revive_mails
from regsvc.accounts.limits.code_attempts import purge_code_attempts
from regsvc.accounts.limits.idempotency import purge_idempotency_keys
from regsvc.accounts.limits.login_attempts import purge_login_tries
from regsvc.accounts.limits.mail_schedule import purge_schedules
from regsvc.accounts.limits.rate_limit import purge_throttles
from regsvc.accounts.mails.legacy import purge_nobodys_mails
from regsvc.accounts.mails.reviving import revive_unknown_kinds
from regsvc.accounts.registrations.registration import expire_registrations, purge_registrations
from regsvc.accounts.sessions.login_places import purge_places
from regsvc.accounts.sessions.session import purge_legacy_tokens, purge_sessions
from regsvc.accounts.users.email_change import purge_changes
from regsvc.errors import DatabaseUnavailableError
from regsvc.jobs.leading import AlwaysLead, Lead
from regsvc.mail.queue.watches import purge_watches
from regsvc.postgres.connection import Connection
from regsvc.postgres.pool import Pool
from regsvc.security.signing.key_lives import purge_keys
from regsvc.waiting import wait_any

log = structlog.get_logger()

EVERY = 10.0  # seconds between rounds
BATCH = 500  # rows per statement at most: locks stay short
LONG = 0.5  # seconds; a slower batch is halved before it reaches the statement timeout
SHARE = 5.0  # seconds per round and chore, so that one backlog does not delay other chores

Chore = Callable[[Connection, int], Awaitable[int]]
CHORES: tuple[tuple[str, Chore], ...] = (
    ("registrations expired", expire_registrations),
    ("registrations purged", purge_registrations),
    ("mails of no registration purged", purge_nobodys_mails),
    ("invitations purged", purge_invitations),
    ("mails of invitations taken up again", revive_mails),
    ("mails of newer kinds taken up again", revive_unknown_kinds),
    ("address changes purged", purge_changes),
    ("refresh tokens purged", purge_legacy_tokens),
    ("sessions purged", purge_sessions),
    ("mail schedules purged", purge_schedules),
    ("code tries purged", purge_code_attempts),
    ("limits purged", purge_throttles),
    ("log-in tries purged", purge_login_tries),
    ("login places purged", purge_places),
    ("unfinished logins purged", purge_pending_logins),
    ("setups of apps purged", purge_totp_setups),
    ("wrong factors purged", purge_guesses),
    ("idempotency keys purged", purge_idempotency_keys),
    ("passkey challenges purged", purge_challenges),
    ("tokens of reports purged", purge_tokens),
    ("watches of mails purged", purge_watches),
    ("suppressions purged", purge_suppressions),
    ("identity codes purged", purge_codes),
    ("audit events purged", purge_audit),
    ("events purged", purge_events),
    ("deliveries of stopped webhooks cancelled", cancel_deliveries),
    ("ended sinks of events purged", purge_sinks),
    ("exchanges without a process ended", end_unseen),
    ("signing keys purged", purge_keys),
)


async def run_janitor(
    *,
    pool: Pool,
    stopping: trio.Event,
    lead: Lead | None = None,
    chores: Sequence[tuple[str, Chore]] = CHORES,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run every chore every few seconds until `stopping` is set, while this process leads.

    Several janitors do not conflict. A failing chore does not stop the next. Its batch is halved, down to one row, and
    doubles again while it fits.

    Args:
        pool: source of connections.
        stopping: ends the janitor after the running chore.
        lead: whether this process runs the chores for all; by default it does.
        chores: a description for the log, and a function that takes a connection and a batch size and returns the
            number of rows it ended or deleted.
        task_status: reports the start.

    Raises:
        DatabaseUnavailableError: every chore of a round failed: the database is unavailable.
        ExceptionGroup: bugs failed chores of a round; all others have run.
    """
    task_status.started()
    lead = lead or AlwaysLead()
    rota = [_Turn(description, chore) for description, chore in chores]
    with lead.stand():
        while not stopping.is_set():
            if lead.ours:
                await _do_rounds(pool, rota, lead, stopping)
            await wait_any(stopping.wait, lead.wait_won)


async def _do_rounds(pool: Pool, rota: Sequence[_Turn], lead: Lead, stopping: trio.Event) -> None:
    while lead.ours and not stopping.is_set():
        failures: list[Exception] = []
        for turn in rota:
            try:
                await turn.take(pool, lead, stopping)
            except (DatabaseUnavailableError, psycopg.Error) as error:
                failures.append(error)
                log.warning("chore failed", chore=turn.description, batch=turn.batch, error=str(error))
            except Exception as error:  # noqa: BLE001 - raised below, after the other chores have run
                failures.append(error)
        if bugs := [error for error in failures if not isinstance(error, DatabaseUnavailableError)]:
            raise ExceptionGroup("chores failed", bugs)
        if len(failures) == len(rota):
            raise failures[-1]
        if not any(turn.more for turn in rota):
            await wait_any(stopping.wait, seconds=EVERY)


class _Turn:
    """A chore and its present batch size."""

    def __init__(self, description: str, chore: Chore) -> None:
        self.description = description
        self.batch = BATCH
        self.more = False  # more rows were left when its share of the round was over
        self._chore = chore

    async def take(self, pool: Pool, lead: Lead, stopping: trio.Event) -> None:
        """Run the chore until no rows are left, its share of the round is over, another process leads, or it fails.

        Raises:
            DatabaseUnavailableError: a batch took too long; the next one is half as large.
        """
        self.more = False
        total, end = 0, trio.current_time() + SHARE
        try:
            while lead.ours and not stopping.is_set():
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
