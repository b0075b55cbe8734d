"""What the children of one process share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from regsvc.config.settings import Settings
from regsvc.consumer.letters import Announce
from regsvc.live import LiveHub
from regsvc.postgres.pool import Pool
from regsvc.postgres.readiness import Readiness
from regsvc.security.passwords import HashingLane
from regsvc.security.tokens import Secrets
from regsvc.supervisor import SupervisorStatistics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

# Seconds to wait for a connection, and for what is done with it: whoever asks is told within 2 s that PostgreSQL is
# away, also where it swallows everything (interrupting a statement takes up to 0.6 s on top).
HTTP_WAIT = 1.8
HTTP_LIMIT = 1.4
KEPT_OPEN = 4  # connections for requests, and half as many for work, from the start
LAME_DUCK = 1.0  # seconds; a load balancer that asks `/readyz` every second learns of the end before it comes


@dataclass(frozen=True)
class Parts:
    """What the children of one process share, or each get their own of.

    Args:
        settings: of this process.
        secrets: what tokens derive from.
        stopping: set once the process is asked to end.
        hub: who waits for which registration.
        http_pool: PostgreSQL for requests, so that no backlog of mails takes their connections.
        work_pool: PostgreSQL for everything else.
        readiness: looks whether PostgreSQL is ready, on a connection of its own.
        lane: where passwords are hashed.
        children: how the children are.
        restart: starts one of them again, by its name.
        announcer: is told link and code of what was sent; in `dev` alone.
        dev: this is `regsvc dev`.
        lame_duck: seconds in which requests are still taken once the process ends.
    """

    settings: Settings
    secrets: Secrets
    stopping: trio.Event
    hub: LiveHub
    http_pool: Pool
    work_pool: Pool
    readiness: Readiness
    lane: HashingLane
    children: Callable[[], SupervisorStatistics]
    restart: Callable[[str], None]
    announcer: Announce | None = None
    dev: bool = False
    lame_duck: float = LAME_DUCK

    @property
    def spaced(self) -> bool:
        """Whether mails of one address keep to its schedule: a newcomer who plays around is not kept waiting."""
        return self.settings.rate_limits and not self.dev


@asynccontextmanager
async def open_parts(
    settings: Settings,
    stopping: trio.Event,
    children: Callable[[], SupervisorStatistics],
    restart: Callable[[str], None],
    *,
    announcer: Announce | None = None,
    dev: bool = False,
    lame_duck: float = LAME_DUCK,
    newer: Sequence[str] = (),
) -> AsyncIterator[Parts]:
    """Hold what the children share as long as the block lasts; some connections are opened at once."""
    secrets = make_secrets(settings)
    pepper, peppers = secrets.peppers()
    conninfo = settings.database_url.get_secret_value()
    http_pool = Pool(
        conninfo,
        size=settings.database_pool_http,
        wait=HTTP_WAIT,
        limit=HTTP_LIMIT,
        application_name="regsvc http",
        prepare=settings.database_prepare,
        keep=min(KEPT_OPEN, settings.database_pool_http) if settings.role != "worker" else 0,
        life=settings.database_pool_life,
    )
    work_pool = Pool(
        conninfo,
        size=settings.database_pool_work,
        application_name="regsvc work",
        prepare=settings.database_prepare,
        keep=min(KEPT_OPEN // 2, settings.database_pool_work),
        life=settings.database_pool_life,
    )
    readiness = Readiness(conninfo, [http_pool, work_pool], prepare=settings.database_prepare, newer=newer)
    http_pool.open_ahead()
    work_pool.open_ahead()
    async with HashingLane(
        cost=settings.bcrypt_cost,
        pepper=pepper,
        peppers=peppers,
        threads=settings.hashing_threads or None,
    ) as lane:
        try:
            yield Parts(
                settings,
                secrets,
                stopping,
                LiveHub(),
                http_pool,
                work_pool,
                readiness,
                lane,
                children,
                restart,
                announcer,
                dev,
                lame_duck,
            )
        finally:
            with trio.CancelScope(shield=True):
                await http_pool.aclose()
                await work_pool.aclose()
                await readiness.aclose()


def make_secrets(settings: Settings) -> Secrets:
    """Return what tokens derive from."""
    previous = settings.secret_key_previous
    return Secrets(
        settings.secret_key.get_secret_value().encode(),
        None if previous is None else previous.get_secret_value().encode(),
    )
