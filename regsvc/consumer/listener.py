"""The listener: hears from PostgreSQL which registrations changed and tells the live hub.

Notifications sent while no listener was there are lost for good, so whenever it begins to listen, or hears nothing,
it has the review look for what was missed.
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
        conninfo: of the connection to listen on.
        pool: by which a notification of its own is sent, to see that it arrives.
        hub: who is told.
        stopping: ends it.
        task_status: told once it listens.

    Raises:
        DatabaseUnavailableError: the connection cannot be made or is lost.
        NotHeardError: nothing is heard on it.
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
    """Return the registration's id of an `id:seq` payload; None for any other payload on the channel."""
    try:
        return UUID(payload.partition(":")[0])
    except ValueError:
        log.warning("notification not understood")
        return None
