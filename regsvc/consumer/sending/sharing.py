"""Sharing what this process knows of the routes with the others, and hearing what they know."""

from __future__ import annotations

from dataclasses import replace

import structlog
import trio

from regsvc.errors import DatabaseUnavailableError
from regsvc.mail.queue import route_breakers
from regsvc.mail.routes.router import Router
from regsvc.postgres.pool import Pool

log = structlog.get_logger()

_EVERY = 2.0  # seconds


async def share_routes(pool: Pool, router: Router) -> None:
    """Write and read the breakers of several routes until cancelled."""
    while True:
        await trio.sleep(_EVERY)
        try:
            await _share(pool, router)
        except DatabaseUnavailableError:
            continue  # each process goes by what it knows


async def _share(pool: Pool, router: Router) -> None:
    async with pool.connection() as conn:
        for route in router.routes:
            news, route.news = route.news, []
            if news:
                await route_breakers.note_route(conn, route.name, news)
        known = await route_breakers.load_routes(conn)
    for route in router.routes:
        shared = known.get(route.name)
        if shared is not None and not route.news:
            if shared.open != route.breaker.open:
                log.info("mail route: another process tells", route=route.name, open=shared.open)
            route.breaker = replace(shared, version=0)
