"""Listen for NOTIFY: check that notifications arrive, and detect a dead connection during silence."""

from __future__ import annotations

import secrets
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NoReturn

import psycopg
import trio
from psycopg import generators

from regsvc.errors import ConfigurationError
from regsvc.postgres.connection import Connection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from psycopg import Notify

    from regsvc.postgres.pool import Pool

_TRIES = 3
_HEARD_SECONDS = 1.0  # a notification takes a millisecond, more on a busy server


class NotHeardError(ConfigurationError):
    """Notifications of PostgreSQL do not arrive, as behind a pooler in transaction mode.

    Set REGSVC_DATABASE_LISTEN_URL to connect directly to the server.
    """

    def __init__(self) -> None:
        super().__init__(" ".join((type(self).__doc__ or "").split()))


@asynccontextmanager
async def open_listener(
    conninfo: str, channel: str, pool: Pool, *, application_name: str
) -> AsyncIterator[Connection]:
    """Yield a connection that listens on a channel, for `wait_notifications`.

    Args:
        conninfo: of the listening connection, which must bypass any pooler.
        channel: the channel to listen on.
        pool: sends a test notification over the same path as all others.
        application_name: shown in `pg_stat_activity`.

    Raises:
        NotHeardError: the test notification does not arrive.
        psycopg.OperationalError: the connection cannot be made or is lost.
        DatabaseUnavailableError: the pool has no connection.
    """
    async with await Connection.connect(conninfo, application_name=application_name) as conn:
        await prove_heard(conn, pool)
        await conn.execute(f"LISTEN {channel}".encode())
        yield conn


async def prove_heard(listener: Connection, pool: Pool) -> None:
    """Check that a notification sent through the pool reaches the listening connection.

    Raises:
        NotHeardError: it does not arrive.
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
    """Wait for notifications on the channels of a connection, and return at least one.

    Only one task may wait at a time. A cancellation loses none: the next call returns what has arrived.

    Args:
        connection: closed when it turns out to be dead.
        heartbeat: seconds of silence after which the server is probed.
        patience: seconds that the server has to answer the probe.

    Raises:
        psycopg.OperationalError: the connection is dead, even if packets are dropped silently.
    """
    backlog = connection.notified
    await trio.lowlevel.checkpoint()
    while not backlog:
        with trio.move_on_after(heartbeat) as silence:
            async with connection.lock:
                # psycopg's handler puts what arrives into the backlog before anything can be cancelled.
                await connection.wait(generators.notifies(connection.pgconn))
        if silence.cancelled_caught:
            await _probe(connection, patience)
    taken = list(backlog)
    backlog.clear()
    return taken


async def hear(
    connection: Connection,
    take: Callable[[bytes], None],
    *,
    pause: Callable[[], float] = lambda: 0.0,
    heartbeat: float = 10.0,
    patience: float = 5.0,
) -> NoReturn:
    """Hand over the payload of every notification, as it came: most processes want few of many.

    Args:
        connection: as for `wait_notifications`, which no other task may call for it any more.
        take: gets each payload.
        pause: seconds without a look after each one; what arrives meanwhile is handed over together.
        heartbeat: as for `wait_notifications`.
        patience: as for `wait_notifications`.

    Raises:
        psycopg.OperationalError: as for `wait_notifications`.
    """
    connection.pgconn.notify_handler = lambda notification: take(notification.extra)
    while connection.notified:
        take(connection.notified.popleft().payload.encode())
    while True:
        with trio.move_on_after(heartbeat) as silence:
            while True:
                async with connection.lock:
                    await connection.wait(generators.notifies(connection.pgconn))
                silence.deadline = trio.current_time() + heartbeat
                if seconds := pause():
                    await trio.sleep(seconds)
        await _probe(connection, patience)


async def _probe(connection: Connection, patience: float) -> None:
    with trio.move_on_after(patience) as waiting:
        await connection.command(b"SELECT 1")
    if waiting.cancelled_caught:
        connection.close_nowait()
        raise psycopg.OperationalError(f"the server did not answer within {patience:g} s")
