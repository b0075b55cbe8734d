"""Open connections in the background, so that no request spends its time on it."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import psycopg
import structlog
import trio

from regsvc.errors import ConfigurationError
from regsvc.postgres.addresses import find_address
from regsvc.postgres.connection import Connection

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from regsvc.postgres.addresses import Address

log = structlog.get_logger()

PREPARE_THRESHOLD = 5
# Seconds without another failure after which an outage is over, for the log.
_OUTAGE_SECONDS = 10.0


def spawn(run: Callable[[], Awaitable[None]]) -> None:
    """Run a task in the background. A bug in it is logged and ends nothing else."""

    async def guarded() -> None:
        try:
            await run()
        except Exception:
            log.exception("bug in the database pool")

    trio.lowlevel.spawn_system_task(guarded, name="database pool")


@dataclass(frozen=True)
class PoolStatistics:
    """A snapshot of a pool: connections now (`size` at most), and counters since its creation."""

    size: int
    idle: int
    in_use: int
    waiting: int
    opened: int
    dropped: int
    timeouts: int


class Opener:
    """Opens the connections of a pool, each in a task of its own.

    Args:
        conninfo: a libpq URI or key/value string.
        seconds: time limit for opening one connection.
        application_name: shown in `pg_stat_activity`.
        prepare: whether frequent statements are prepared.
        life: seconds after which a connection is replaced.
        on_opened: called with each new connection.
        on_failed: called with the reason why one could not be opened.
    """

    def __init__(
        self,
        conninfo: str,
        *,
        seconds: float,
        application_name: str,
        prepare: bool,
        life: float,
        on_opened: Callable[[Connection], None],
        on_failed: Callable[[Exception], None],
    ) -> None:
        self._conninfo = conninfo
        self._seconds = seconds
        self._application_name = application_name
        self._prepare = prepare
        self._life = life
        self._on_opened = on_opened
        self._on_failed = on_failed
        self._scopes: set[trio.CancelScope] = set()
        self._address: Address | None = None  # of the server that accepted a connection last
        self._last_failure = -math.inf
        self.opened = 0

    def __len__(self) -> int:
        """Return the number of connections being opened."""
        return len(self._scopes)

    def open_one(self) -> None:
        """Start opening a connection."""
        scope = trio.CancelScope()
        self._scopes.add(scope)
        spawn(partial(self._open, scope))

    def cancel(self) -> None:
        """Cancel the connections being opened."""
        for scope in self._scopes:
            scope.cancel()

    def stop_preparing(self, why: Exception) -> None:
        """Stop preparing statements on connections opened from now on."""
        if self._prepare:
            self._prepare = False
            log.warning("prepared statements are lost: disabled", error=str(why))

    def note_failure(self, error: Exception) -> None:
        """Log the first failure of an outage, with PostgreSQL's message."""
        now = trio.current_time()
        if now - self._last_failure > _OUTAGE_SECONDS:
            words = " ".join(str(error).split())
            log.warning("database unavailable", connections=self._application_name, error=words)
        self._last_failure = now

    async def _open(self, scope: trio.CancelScope) -> None:
        failure: Exception = psycopg.OperationalError("the pool is closed")
        connection = None
        try:
            with scope:
                connection = await Connection.connect(
                    self._conninfo,
                    timeout=self._seconds,
                    prepare_threshold=None,
                    application_name=self._application_name,
                    prefer=self._address,
                )
        except (psycopg.Error, ConfigurationError) as error:
            failure = error
        finally:
            self._scopes.discard(scope)
        if connection is None:
            self.note_failure(failure)
            self._on_failed(failure)
        else:
            self.opened += 1
            self._address = find_address(connection.pgconn)
            # Not before: `stop_preparing` may have come meanwhile.
            connection.prepare_threshold = PREPARE_THRESHOLD if self._prepare else None
            connection.expires = trio.current_time() + self._life * random.uniform(0.8, 1)  # noqa: S311 - no secret
            self._on_opened(connection)
