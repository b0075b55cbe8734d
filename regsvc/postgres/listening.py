"""Hearing of what others NOTIFY: proved before it is relied on, and with silence told from peace."""

from __future__ import annotations

import secrets
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import psycopg
import trio
from psycopg import generators

from regsvc.errors import ConfigurationError
from regsvc.postgres.connection import Connection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from psycopg import Notify

    from regsvc.postgres.pool import Pool

_TRIES = 3
_HEARD_SECONDS = 1.0  # a notification takes a millisecond; a busy server some more


class NotHeardError(ConfigurationError):
    """Notifications of PostgreSQL do not arrive, as behind a pooler that lends a server for one transaction.

    Set REGSVC_DATABASE_LISTEN_URL to the server itself.
    """

    def __init__(self) -> None:
        super().__init__(" ".join((type(self).__doc__ or "").split()))


@asynccontextmanager
async def open_listener(
    conninfo: str, channel: str, pool: Pool, *, application_name: str
) -> AsyncIterator[Connection]:
    """Hold a connection that hears of what is sent to a channel, for `wait_notifications`.

    Args:
        conninfo: of the connection that listens, past any pooler.
        channel: what to listen to.
        pool: for one notification of our own, sent the way that all others are.
        application_name: what `pg_stat_activity` shows.

    Raises:
        NotHeardError: that notification does not arrive.
        psycopg.OperationalError: the connection cannot be made or is lost.
        DatabaseUnavailableError: the pool has no connection.
    """
    async with await Connection.connect(conninfo, application_name=application_name) as conn:
        await prove_heard(conn, pool)
        await conn.execute(f"LISTEN {channel}".encode())
        yield conn


async def prove_heard(listener: Connection, pool: Pool) -> None:
    """Send a notification to a channel of our own, and see that it arrives.

    Raises:
        NotHeardError: it does not.
    """
    channel = f"regsvc_proof_{secrets.token_hex(8)}"
    await listener.execute(f"LISTEN {channel}".encode())
    for _ in range(_TRIES):
        async with pool.connection() as conn:
            await conn.execute("SELECT pg_notify(%s, '')", [channel])
        with trio.move_on_after(_HEARD_SECONDS):
            while True:
                if any(
                    notification.channel == channel for notification in await wait_notifications(listener)
                ):
                    await listener.execute(f"UNLISTEN {channel}".encode())
                    return
    raise NotHeardError


async def wait_notifications(
    connection: Connection, *, heartbeat: float = 10.0, patience: float = 5.0
) -> list[Notify]:
    """Wait for notifications of the channels that a connection LISTENs to; at least one is returned.

    One task at a time. A cancel loses none: what arrived is returned by the next call.

    Args:
        connection: it is closed when it turns out to be dead.
        heartbeat: seconds of silence after which the server is asked whether it still lives.
        patience: seconds it gets to answer that.

    Raises:
        psycopg.OperationalError: the connection is dead, black holes included.
    """
    backlog = connection.notified
    await trio.lowlevel.checkpoint()
    while not backlog:
        with trio.move_on_after(heartbeat) as silence:
            async with connection.lock:
                # psycopg's handler puts what arrives into the backlog before anything can be cancelled.
                await connection.wait(generators.notifies(connection.pgconn))
        if silence.cancelled_caught:
            with trio.move_on_after(patience) as waiting:
                await connection.command(b"SELECT 1")
            if waiting.cancelled_caught:
                connection.close_nowait()
                raise psycopg.OperationalError(f"the server did not answer within {patience:g} s")
    taken = list(backlog)
    backlog.clear()
    return taken
