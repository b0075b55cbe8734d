"""The listener: receives registration changes from PostgreSQL and passes them to the live hub.

Notifications sent while it was not listening are lost. So on every start, and when it hears nothing, it asks the review
to look for missed changes.
"""

from __future__ import annotations

from uuid import UUID

import psycopg
import structlog
import trio

from regsvc.accounts.registrations.registration import STATE_CHANNEL
from regsvc.errors import DatabaseUnavailableError
from regsvc.live import LiveHub
from regsvc.postgres.listening import NotHeardError, hear, open_listener
from regsvc.postgres.pool import Pool
from regsvc.waiting import wait_any

log = structlog.get_logger()

IDLE_PAUSE = (
    0.05  # seconds between two looks while no client waits; one that begins to wait reads the state first
)


async def run_listener(
    *,
    conninfo: str,
    pool: Pool,
    hub: LiveHub,
    stopping: trio.Event,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Pass on changes until `stopping` is set.

    Args:
        conninfo: of the listening connection.
        pool: sends a test notification, to verify that notifications arrive.
        hub: receives the changes.
        stopping: ends the listener.
        task_status: reports the start of listening.

    Raises:
        DatabaseUnavailableError: the connection failed.
        NotHeardError: notifications do not arrive.
    """

    def take(payload: bytes) -> None:
        if hub.has_waiters and (registration_id := _read_id(payload)) is not None:
            hub.announce(registration_id)

    async def listen() -> None:
        async with open_listener(conninfo, STATE_CHANNEL, pool, application_name="regsvc listener") as conn:
            hub.doubt()
            task_status.started()
            await hear(conn, take, pause=lambda: 0.0 if hub.has_waiters else IDLE_PAUSE)

    try:
        await wait_any(listen, stopping.wait)
    except* NotHeardError:
        hub.doubt()
        raise
    except* psycopg.OperationalError as group:
        raise DatabaseUnavailableError from group


def _read_id(payload: bytes) -> UUID | None:
    """Return the registration's id of an `id:seq` payload, or None for any other payload."""
    try:
        return UUID(payload.partition(b":")[0].decode())
    except ValueError:
        log.warning("notification malformed")
        return None
