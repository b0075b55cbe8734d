"""A connection pool for Trio: first come, first served; opened in the background, dropped when in doubt.

A block, or waiting in line, has no cancel scope of its own, which would cost a third of a query. Instead, while
connections are lent, one task checks the deadlines ten times a second.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import outcome
import psycopg
import structlog
import trio

from regsvc.errors import DatabaseUnavailableError
from regsvc.postgres.connection import Connection, StatementInterruptedError
from regsvc.postgres.failures import judge
from regsvc.postgres.opening import Opener, PoolStatistics, spawn
from regsvc.postgres.waiting import is_readable
from regsvc.tracing.pool_times import PoolTimes
from regsvc.tracing.spans import Stopwatch, get_span

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

log = structlog.get_logger()

_LOOK_SECONDS = 0.1  # between two checks of the deadlines, and so the precision of `wait` and `limit`
_CROWDED_SECONDS = 1.0  # without new connections after the server has refused one
_CLOSED = "The connections to the database are closed."


class Pool:
    """Connections to one database, opened when needed and kept.

    A task that finds no idle connection waits in line for the first one that is returned or opened (in the
    background). When the server grants no more, the open ones must suffice.

    A connection returns to the pool only if it is idle, alive and outside a transaction. When the server turns out to
    be gone, all connections opened before that moment are dropped, so that after a restart one request fails and not
    one per connection. Do not rely on session state (SET, LISTEN, temporary tables): the next block may differ.

    Args:
        conninfo: a libpq URI or key/value string.
        size: maximum number of connections.
        wait: seconds to wait for a connection, in line and while it is opened.
        limit: time limit of a block in seconds by default, so that a server that does not answer is not waited for.
        application_name: shown in `pg_stat_activity`.
        prepare: whether frequent statements are prepared; the pool disables this when they turn out to be lost.
        keep: number of connections that `open_ahead` opens.
        life: seconds after which an idle connection is replaced, so that its memory on the server does not grow.
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
        self._times = PoolTimes(application_name.removeprefix("regsvc "))
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
            on_opened=self._add,
            on_failed=self._note_unopened,
        )
        # Connections that are open, idle or lent. While a task waits in line, none is idle.
        self._count = 0
        self._crowded_until = -math.inf
        self._idle: list[Connection] = []
        self._lent: dict[Connection, float] = {}  # with their deadlines
        self._line: OrderedDict[trio.lowlevel.Task, float] = OrderedDict()  # with their deadlines
        # Incremented whenever the server turns out to be gone. Idle connections belong to the current generation.
        self._generation = 0
        self._watched = False
        self._closed = False
        self._dropped = self._timeouts = 0
        self.writes_refused = False
        """Whether the server has refused a write, for a full disk or as read-only, since this was last reset."""

    @asynccontextmanager
    async def connection(
        self, *, limit: float | None = None, alone: bool = False
    ) -> AsyncIterator[Connection]:
        """Lend a connection in autocommit mode for the duration of the block.

        Args:
            limit: seconds after which a statement of the block is cancelled (`math.inf`: never); by default the pool's.
            alone: each statement is a transaction by itself, and its outcome is as certain as a COMMIT's.

        Raises:
            DatabaseUnavailableError: no connection became free in time; the server is unreachable, refuses connections
                or writes (a failover, a full disk), fails, or exceeds `limit`. psycopg's other errors pass.
        """
        watch = Stopwatch()
        connection = self._take_idle() or await self._take()
        waited = watch.lap()
        generation = self._generation
        self._lent[connection] = trio.current_time() + (self._limit if limit is None else limit)
        self._watch()
        traced = alone and get_span() is not None  # only a transaction can tell its rows of the span
        connection.commits = alone and not traced
        try:
            if traced:
                async with connection.transaction():
                    yield connection
            else:
                yield connection
        except psycopg.Error as error:
            verdict = judge(error, connection)
            if verdict is None:
                raise
            self._timeouts += isinstance(error, StatementInterruptedError)
            self.writes_refused |= verdict.full
            if verdict.unprepared:
                self._opener.stop_preparing(error)
            elif verdict.gone:
                self._opener.note_failure(error)
            if verdict.gone:
                self._drop_older(generation)
            raise verdict.error from error
        finally:
            self._times.note(waited, watch.lap())
            del self._lent[connection]
            if generation == self._generation and connection.is_reusable:
                self._pass_on(connection)
            else:
                self._drop(connection)
                self._pass_on(None)

    @asynccontextmanager
    async def transaction(self, *, limit: float | None = None) -> AsyncIterator[Connection]:
        """Lend a connection inside a transaction. See `connection()` and `Connection.transaction()`."""
        async with self.connection(limit=limit) as connection, connection.transaction():
            yield connection

    def open_ahead(self) -> None:
        """Start opening the connections that are kept."""
        while self._count + len(self._opener) < self._keep:
            self._opener.open_one()

    async def aclose(self) -> None:
        """Close idle connections now and lent ones on their return, and lend no more."""
        self._closed = True
        self._opener.cancel()
        while self._line:
            self._refuse(DatabaseUnavailableError(_CLOSED))
        self._drop_older(self._generation)
        await trio.lowlevel.checkpoint()

    def statistics(self) -> PoolStatistics:
        """Return a snapshot of the pool."""
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
            # No query is in progress, so this is the server's goodbye or a closed socket.
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
        """Give a connection to the task that waits longest, or keep it. None: open a replacement if needed."""
        if connection is None:
            self._count -= 1
            self._open_enough()
        elif self._line:
            task, _ = self._line.popitem(last=False)
            trio.lowlevel.reschedule(task, outcome.Value(connection))
        else:
            self._idle.append(connection)

    def _open_enough(self) -> None:
        """Open a connection for each waiting task, up to `size`."""
        crowded = self._count and trio.current_time() < self._crowded_until
        while (
            len(self._opener) < len(self._line)
            and self._count + len(self._opener) < self._size
            and not crowded
            and not self._closed
        ):
            self._opener.open_one()

    def _add(self, connection: Connection) -> None:
        """Add a connection that was opened."""
        if self._closed:
            connection.close_nowait()
        else:
            self._count += 1
            self._pass_on(connection)

    def _note_unopened(self, failure: Exception) -> None:
        """Fail the task that waits longest, unless lent connections will come back."""
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
        """Drop connections of `generation` or before: idle ones now, lent ones on their return."""
        if generation != self._generation:
            return
        self._generation += 1
        if not self._closed:
            log.info("database connections dropped", idle=len(self._idle), lent=len(self._lent))
        self._count -= len(self._idle)
        while self._idle:
            self._drop(self._idle.pop())

    def _watch(self) -> None:
        if not self._watched:
            self._watched = True
            spawn(self._enforce_deadlines)

    async def _enforce_deadlines(self) -> None:
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
        self._idle = [connection for connection in self._idle if connection.expires > now]
        self._count -= len(old)
        for connection in old:
            self._drop(connection)
        if old:
            self.open_ahead()
