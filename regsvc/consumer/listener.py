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
from regsvc.postgres.listening import NotHeardError, open_listener, wait_notifications
from regsvc.postgres.pool import Pool
from regsvc.waiting import wait_any

log = structlog.get_logger()


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

    async def listen() -> None:
        async with open_listener(conninfo, STATE_CHANNEL, pool, application_name="regsvc listener") as conn:
            hub.doubt()
            task_status.started()
            while True:
                for notification in await wait_notifications(conn):
                    registration_id = _read_id(notification.payload)
                    if registration_id is not None:
                        hub.announce(registration_id)

    try:
        await wait_any(listen, stopping.wait)
    except* NotHeardError:
        hub.doubt()
        raise
    except* psycopg.OperationalError as group:
        raise DatabaseUnavailableError from group


def _read_id(payload: str) -> UUID | None:
    """Return the registration's id of an `id:seq` payload, or None for any other payload."""
    try:
        return UUID(payload.partition(":")[0])
    except ValueError:
        log.warning("notification malformed")
        return None
