"""A pool of connections for Trio: first come, first served; opened in the background, dropped when in doubt.

There is no cancel scope around a block or around waiting in line: entering one costs a third of a query. One task looks
ten times a second, while anything is lent, for whose time is over.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import outcome
import psycopg
import structlog
import trio

from regsvc.errors import DatabaseUnavailableError
from regsvc.postgres.connection import Connection, StatementInterruptedError
from regsvc.postgres.failures import judge
from regsvc.postgres.opening import Opener, spawn
from regsvc.postgres.waiting import is_readable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

log = structlog.get_logger()

# Seconds between two looks for whose time is over; how exact `wait` and `limit` are.
_LOOK_SECONDS = 0.1
# Seconds in which no more connections are asked of a server that grants no more.
_CROWDED_SECONDS = 1.0
_CLOSED = "The connections to the database are closed."


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

    Whoever finds none idle waits in line, for the first one that becomes free or is opened: connections are opened in
    the background. When the server grants no more of them, those that there are have to do.

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
        prepare: whether statements that come often are prepared; it ends by itself when they turn out to be lost.
        keep: connections that `open_ahead` opens.
        life: seconds after which an idle connection is replaced, so that nothing grows old with it.
    """

    def __init__(
        self,
        conninfo: str,
        *,
        size: int = 8,
        wait: float = 2.0,
        limit: float = 2.0,
        application_name: str,
        prepare: bool = True,
        keep: int = 0,
        life: float = math.inf,
    ) -> None:
        self._size = size
        self._wait = wait
        self._limit = limit
        self._keep = keep
        self._opener = Opener(
            conninfo,
            seconds=wait,
            application_name=application_name,
            prepare=prepare,
            life=life,
            on_opened=self._take_in,
            on_failed=self._disappoint,
        )
        # Connections that are open, idle or lent; while a task waits in line none is idle.
        self._count = 0
        self._crowded_until = -math.inf
        self._idle: list[Connection] = []
        self._lent: dict[Connection, float] = {}  # and until when
        self._line: OrderedDict[trio.lowlevel.Task, float] = OrderedDict()  # and until when
        # Rises whenever the server was found gone; what is idle is always of the present one.
        self._generation = 0
        self._watched = False
        self._closed = False
        self._dropped = self._timeouts = 0
        self.writes_refused = False
        """Whether the server has refused a write for want of room, or as read-only, since this was last set."""

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
            verdict = judge(error, connection)
            if verdict is None:
                raise
            self._timeouts += isinstance(error, StatementInterruptedError)
            self.writes_refused |= verdict.full
            if verdict.forgetful:
                self._opener.stop_preparing(error)
            elif verdict.gone:
                self._opener.note_failure(error)
            if verdict.gone:
                self._drop_older(generation)
            raise verdict.error from error
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

    def open_ahead(self) -> None:
        """Open what is to be kept, in the background."""
        while self._count + len(self._opener) < self._keep:
            self._opener.open_one()

    async def aclose(self) -> None:
        """Close what is idle now and what is lent when it comes back; nothing is lent any more."""
        self._closed = True
        self._opener.cancel()
        while self._line:
            self._refuse(DatabaseUnavailableError(_CLOSED))
        self._drop_older(self._generation)
        await trio.lowlevel.checkpoint()

    def statistics(self) -> PoolStatistics:
        """Tell how it stands."""
        return PoolStatistics(
            size=self._size,
            idle=len(self._idle),
            in_use=len(self._lent),
            waiting=len(self._line),
            opened=self._opener.opened,
            dropped=self._dropped,
            timeouts=self._timeouts,
        )

    def _take_idle(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if not is_readable(connection.fileno()):
                return connection
            # Nobody asked anything: it is the server's farewell, or its end of the socket.
            self._drop(connection)
            self._count -= 1
        return None

    async def _take(self) -> Connection:
        """Wait in line for a connection."""
        if self._closed:
            raise DatabaseUnavailableError(_CLOSED)
        task = trio.lowlevel.current_task()
        self._line[task] = trio.current_time() + self._wait
        self._open_enough()
        self._watch()

        def leave(_: object) -> trio.lowlevel.Abort:
            del self._line[task]
            return trio.lowlevel.Abort.SUCCEEDED

        given: Connection = await trio.lowlevel.wait_task_rescheduled(leave)
        return given

    def _pass_on(self, connection: Connection | None) -> None:
        """Give a connection to the task that waits longest, or keep it; None: open another in its place, if needed."""
        if connection is None:
            self._count -= 1
            self._open_enough()
        elif self._line:
            task, _ = self._line.popitem(last=False)
            trio.lowlevel.reschedule(task, outcome.Value(connection))
        else:
            self._idle.append(connection)

    def _open_enough(self) -> None:
        """Open as many connections as tasks wait for, as far as there may be so many."""
        crowded = self._count and trio.current_time() < self._crowded_until
        while (
            len(self._opener) < len(self._line)
            and self._count + len(self._opener) < self._size
            and not crowded
            and not self._closed
        ):
            self._opener.open_one()

    def _take_in(self, connection: Connection) -> None:
        """Take a connection that was opened."""
        if self._closed:
            connection.close_nowait()
        else:
            self._count += 1
            self._pass_on(connection)

    def _disappoint(self, failure: Exception) -> None:
        """Tell a task in line that there is no connection to be had, unless others will come back."""
        if self._count:
            self._crowded_until = trio.current_time() + _CROWDED_SECONDS
        elif self._line:
            self._refuse(DatabaseUnavailableError(), failure)
            self._open_enough()

    def _refuse(self, error: DatabaseUnavailableError, cause: Exception | None = None) -> None:
        """Raise an error in the task that waits longest."""
        task, _ = self._line.popitem(last=False)
        error.__cause__ = cause
        trio.lowlevel.reschedule(task, outcome.Error(error))

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
            spawn(self._end_what_takes_too_long)

    async def _end_what_takes_too_long(self) -> None:
        try:
            while self._lent or self._line:
                await trio.sleep(_LOOK_SECONDS)
                now = trio.current_time()
                while self._line and next(iter(self._line.values())) <= now:
                    self._timeouts += 1
                    self._refuse(
                        DatabaseUnavailableError("No connection to the database became free in time.")
                    )
                for connection, deadline in self._lent.items():
                    if deadline <= now:
                        self._lent[connection] = math.inf
                        connection.interrupt()
                self._replace_old(now)
                self._open_enough()
        finally:
            self._watched = False

    def _replace_old(self, now: float) -> None:
        old = [connection for connection in self._idle if connection.expires <= now]
        for connection in old:
            self._idle.remove(connection)
            self._drop(connection)
            self._count -= 1
        if old:
            self.open_ahead()
