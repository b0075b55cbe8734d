"""Resources that the children of one process share."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from secrets import token_hex
from typing import TYPE_CHECKING

import trio

from regsvc.config.settings import Settings
from regsvc.consumer.sending.letters import Announce
from regsvc.jobs.leading import Leadership
from regsvc.live import LiveHub
from regsvc.postgres.pool import Pool
from regsvc.postgres.readiness import Readiness
from regsvc.processes.member import Member
from regsvc.security.cores import hashing_threads
from regsvc.security.passwords import HashingLane
from regsvc.security.tokens import Secrets
from regsvc.supervisor import SupervisorStatistics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

# Seconds to wait for a connection, and for a statement on it: a client learns within 2 s that PostgreSQL is down, even
# where packets are dropped silently (interrupting a statement takes up to 0.6 s more).
HTTP_WAIT = 1.8
HTTP_LIMIT = 1.4
KEPT_OPEN = 4  # connections opened at the start for requests; half as many for work
LAME_DUCK = 1.0  # seconds; enough for a load balancer that probes `/readyz` every second


@dataclass(frozen=True)
class Parts:
    """Resources that the children of one process share or build from.

    Args:
        settings: of this process.
        secrets: keys from which tokens are derived.
        stopping: set when the process is asked to stop.
        hub: the sockets and long polls waiting for each registration.
        http_pool: PostgreSQL connections for requests, so that a backlog of mails cannot take them.
        work_pool: PostgreSQL connections for everything else.
        readiness: checks whether PostgreSQL is ready, on its own connection.
        lane: the threads that hash passwords.
        leadership: which chores this process runs for all.
        children: returns the state of the children.
        restart: restarts a child by name.
        announcer: receives the link and code of each mail that was sent; only in `dev`.
        dev: whether this is `regsvc dev`.
        lame_duck: seconds for which requests are still accepted after a stop signal.
        member: this process among its siblings, if there are several.
    """

    settings: Settings
    secrets: Secrets
    stopping: trio.Event
    hub: LiveHub
    http_pool: Pool
    work_pool: Pool
    readiness: Readiness
    lane: HashingLane
    leadership: Leadership
    children: Callable[[], SupervisorStatistics]
    restart: Callable[[str], None]
    announcer: Announce | None = None
    dev: bool = False
    lame_duck: float = LAME_DUCK
    member: Member | None = None

    @property
    def spaced(self) -> bool:
        """Whether mails to one address are rate limited. Not in `dev`, where a developer tries it out."""
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
    member: Member | None = None,
) -> AsyncIterator[Parts]:
    """Open the shared resources for the duration of the block, some connections at once."""
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
        threads=settings.hashing_threads or hashing_threads(settings.processes),
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
                Leadership(f"{socket.gethostname()}/{os.getpid()}/{token_hex(4)}"),
                children,
                restart,
                announcer,
                dev,
                lame_duck,
                member,
            )
        finally:
            with trio.CancelScope(shield=True):
                await http_pool.aclose()
                await work_pool.aclose()
                await readiness.aclose()


def make_secrets(settings: Settings) -> Secrets:
    """Return the keys from which tokens are derived."""
    previous = settings.secret_key_previous
    return Secrets(
        settings.secret_key.get_secret_value().encode(),
        None if previous is None else previous.get_secret_value().encode(),
    )
