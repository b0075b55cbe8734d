"""The listener: hears from PostgreSQL which registrations changed and tells the live hub.

Notifications that were sent while nobody listened are lost for good, so whenever it begins to listen it advises
everyone who waits to look for themselves.
"""

from __future__ import annotations

from uuid import UUID

import psycopg
import structlog
import trio

from regsvc.accounts.registrations.registration import STATE_CHANNEL
from regsvc.errors import DatabaseUnavailableError
from regsvc.live import LiveHub
from regsvc.postgres.connection import Connection
from regsvc.waiting import wait_any

log = structlog.get_logger()


async def run_listener(
    *,
    conninfo: str,
    hub: LiveHub,
    stopping: trio.Event,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Pass on changes until `stopping` is set.

    Args:
        conninfo: of the connection to listen on.
        hub: who is told.
        stopping: ends it.
        task_status: told once it listens.

    Raises:
        DatabaseUnavailableError: the connection cannot be made or is lost.
    """

    async def listen() -> None:
        async with await Connection.connect(conninfo, application_name="regsvc listener") as conn:
            await conn.execute(f"LISTEN {STATE_CHANNEL}")
            hub.announce_all()
            task_status.started()
            while True:
                for notification in await conn.wait_notifications():
                    registration_id = _read_id(notification.payload)
                    if registration_id is not None:
                        hub.announce(registration_id)

    try:
        await wait_any(listen, stopping.wait)
    except* psycopg.OperationalError as group:
        raise DatabaseUnavailableError from group


def _read_id(payload: str) -> UUID | None:
    """Return the registration's id of an `id:seq` payload; None for what anyone else sent on the channel."""
    try:
        return UUID(payload.partition(":")[0])
    except ValueError:
        log.warning("notification not understood")
        return None
