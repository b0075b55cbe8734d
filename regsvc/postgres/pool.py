"""A pool of connections for Trio: first come, first served; opened by who needs one, dropped when in doubt.

There is no cancel scope around a block or around waiting in line: entering one costs a third of a query. One system
task looks ten times a second, while anything is lent, for whose time is over.
"""

from __future__ import annotations

import math
import select
from collections import OrderedDict
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import outcome
import psycopg
import structlog
import trio
from psycopg import errors

from regsvc.errors import DatabaseUnavailableError
from regsvc.postgres.connection import Connection, StatementInterruptedError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

log = structlog.get_logger()

# Seconds between two looks for whose time is over; how exact `wait` and `limit` are.
_LOOK_SECONDS = 0.1


@dataclass(frozen=True)
class PoolStatistics:
    """A snapshot of a pool: connections now (`size` at most), and counts since it was made."""

    size: int
    idle: int
    in_use: int
    waiting: int
    opened: int
    dropped: int
    timeouts: int


class Pool:
    """Connections to one database, opened when needed and kept.

    A connection comes back to the pool only if it is idle, outside a transaction and alive. When the server turns out
    to be gone, everything opened before that moment is dropped, so that one request pays for a restart and not one
    a connection. There is no state of a session to rely on (SET, LISTEN, temporary tables): the next one may get
    another connection.

    Args:
        conninfo: a libpq URI or key/value string.
        size: connections at most.
        wait: seconds to wait for a connection, the line and connecting together.
        limit: seconds a block may take, unless it says otherwise: a server that does not answer is not waited for.
        application_name: what `pg_stat_activity` shows.
        prepare_threshold: see `Connection.connect`.
    """

    def __init__(
        self,
        conninfo: str,
        *,
        size: int = 8,
        wait: float = 2.0,
        limit: float = 2.0,
        application_name: str,
        prepare_threshold: int | None = 5,
    ) -> None:
        self._conninfo = conninfo
        self._size = size
        self._wait = wait
        self._limit = limit
        self._application_name = application_name
        self._prepare_threshold = prepare_threshold
        # Open connections and those being opened. All are idle or lent; while somebody waits in line none is idle and
        # there are `size`.
        self._count = 0
        self._idle: list[Connection] = []
        self._lent: dict[Connection, float] = {}  # and until when
        self._line: OrderedDict[trio.lowlevel.Task, float] = OrderedDict()  # and until when
        # Rises whenever the server was found gone; what is idle is always of the present one.
        self._generation = 0
        self._watched = False
        self._closed = False
        self._opened = self._dropped = self._timeouts = 0

    @asynccontextmanager
    async def connection(self, *, limit: float | None = None) -> AsyncIterator[Connection]:
        """Lend a connection in autocommit mode to the block.

        Args:
            limit: seconds after which a statement of the block is cancelled (`math.inf`: never); the pool's own by
                default.

        Raises:
            DatabaseUnavailableError: none became free in time, the server is out of reach, refuses, went away
                during the block, takes no writes (a failover under way) or nothing at all (disk full), or did not
                finish within `limit`. psycopg's other errors pass.
        """
        connection = self._take_idle() or await self._take()
        generation = self._generation
        self._lent[connection] = trio.current_time() + (self._limit if limit is None else limit)
        self._watch()
        try:
            yield connection
        except psycopg.Error as error:
            unavailable = self._judge(error, connection, generation)
            if unavailable is None:
                raise
            raise unavailable from error
        finally:
            del self._lent[connection]
            if generation == self._generation and connection.is_reusable:
                self._pass_on(connection)
            else:
                self._drop(connection)
                self._pass_on(None)

    @asynccontextmanager
    async def transaction(self, *, limit: float | None = None) -> AsyncIterator[Connection]:
        """Lend a connection inside a transaction: see `connection()` and `Connection.transaction()`."""
        async with self.connection(limit=limit) as connection, connection.transaction():
            yield connection

    async def aclose(self) -> None:
        """Close what is idle now and what is lent when it comes back; nothing is lent any more."""
        self._closed = True
        self._drop_older(self._generation)
        await trio.lowlevel.checkpoint()

    def statistics(self) -> PoolStatistics:
        """Tell how it stands."""
        return PoolStatistics(
            size=self._size,
            idle=len(self._idle),
            in_use=self._count - len(self._idle),
            waiting=len(self._line),
            opened=self._opened,
            dropped=self._dropped,
            timeouts=self._timeouts,
        )

    def _take_idle(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if not _is_readable(connection):
                return connection
            # Nobody asked anything: it is the server's farewell, or its end of the socket.
            self._drop(connection)
            self._count -= 1
        return None

    async def _take(self) -> Connection:
        """Take a connection in turn, or open one."""
        deadline = trio.current_time() + self._wait
        if self._count < self._size:
            self._count += 1
        else:
            connection = await self._queue_up(deadline)
            if connection is not None:
                return connection
        try:
            return await self._open(deadline - trio.current_time())
        except BaseException:
            self._pass_on(None)
            raise

    async def _queue_up(self, deadline: float) -> Connection | None:
        """Wait to be given a connection, or None: the place of one, to open it."""
        task = trio.lowlevel.current_task()
        self._line[task] = deadline
        self._watch()

        def leave(_: object) -> trio.lowlevel.Abort:
            del self._line[task]
            return trio.lowlevel.Abort.SUCCEEDED

        given: Connection | None = await trio.lowlevel.wait_task_rescheduled(leave)
        return given

    def _pass_on(self, connection: Connection | None) -> None:
        """Give a connection, or the place of one, to who waits longest; keep it when nobody does."""
        if self._line:
            task, _ = self._line.popitem(last=False)
            trio.lowlevel.reschedule(task, outcome.Value(connection))
        elif connection is not None:
            self._idle.append(connection)
        else:
            self._count -= 1

    async def _open(self, seconds: float) -> Connection:
        if self._closed:
            raise DatabaseUnavailableError("The connections to the database are closed.")
        try:
            connection = await Connection.connect(
                self._conninfo,
                timeout=seconds,
                prepare_threshold=self._prepare_threshold,
                application_name=self._application_name,
            )
        except psycopg.OperationalError as error:
            raise DatabaseUnavailableError from error
        self._opened += 1
        return connection

    def _judge(
        self, error: psycopg.Error, connection: Connection, generation: int
    ) -> DatabaseUnavailableError | None:
        """Tell whether an error means that there is no database to talk to, and drop what is of no use then."""
        late = isinstance(error, StatementInterruptedError)
        self._timeouts += late
        if late and not connection.closed:
            # Slow, but there.
            return DatabaseUnavailableError("The database did not finish in time.")
        if (error.sqlstate or "").startswith("40"):
            # Rolled back for another's sake (a deadlock): the same will go well in a moment.
            return DatabaseUnavailableError(retry_after=1.0)
        if late or _is_unavailable(error, connection):
            self._drop_older(generation)
            return DatabaseUnavailableError()
        return None

    def _drop(self, connection: Connection) -> None:
        connection.close_nowait()
        self._dropped += 1

    def _drop_older(self, generation: int) -> None:
        """Drop what was opened in `generation` or before: the idle now, the lent when they come back."""
        if generation == self._generation:
            self._generation += 1
            if not self._closed:
                log.info("database connections dropped", idle=len(self._idle), lent=len(self._lent))
            self._count -= len(self._idle)
            while self._idle:
                self._drop(self._idle.pop())

    def _watch(self) -> None:
        if not self._watched:
            self._watched = True
            trio.lowlevel.spawn_system_task(self._end_what_takes_too_long, name="database pool")

    async def _end_what_takes_too_long(self) -> None:
        try:
            while self._lent or self._line:
                await trio.sleep(_LOOK_SECONDS)
                now = trio.current_time()
                while self._line and next(iter(self._line.values())) <= now:
                    task, _ = self._line.popitem(last=False)
                    self._timeouts += 1
                    late = DatabaseUnavailableError("No connection to the database became free in time.")
                    trio.lowlevel.reschedule(task, outcome.Error(late))
                for connection, deadline in self._lent.items():
                    if deadline <= now:
                        self._lent[connection] = math.inf
                        connection.interrupt()
        finally:
            self._watched = False


def _is_readable(connection: Connection) -> bool:
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def _is_unavailable(error: psycopg.Error, connection: Connection) -> bool:
    # Class 53, insufficient resources: disk or memory full, too many connections. 57P01-3: shutting down, starting.
    return (
        connection.closed
        or (error.sqlstate or "").startswith("53")
        or isinstance(error, errors.AdminShutdown | errors.CrashShutdown | errors.CannotConnectNow)
        or (isinstance(error, errors.ReadOnlySqlTransaction) and _takes_no_writes(connection))
    )


def _takes_no_writes(connection: Connection) -> bool:
    # The server keeps its clients informed of both; a transaction that is read-only by our own word is a bug of ours.
    status = connection.pgconn.parameter_status
    return b"on" in (status(b"in_hot_standby"), status(b"default_transaction_read_only"))
