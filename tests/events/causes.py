"""What a cause has other services told: exactly these events, in this order, thin."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio

from regsvc.accounts.events.sinks import note_exchange
from regsvc.accounts.events.types import TYPES
from regsvc.postgres.pool import Pool
from tests.events.happenings import read_rows

# Ids, times, states and words of ours: nothing else may be told.
FACTS = {
    "registration": {"registration", "state", "seq", "kind", "reason"},
    "user": {"user", "role", "fields"},
    "session": {"user", "session", "amr", "reason"},
    "factor": {"user", "factor", "id"},
    "mail": {"mail", "registration"},
}
_SINCE = "SELECT type, data FROM events WHERE n > %s ORDER BY n"


async def listen(pool: Pool) -> None:
    """Have events written from now on."""
    async with pool.connection() as conn:
        await note_exchange(conn, "regsvc.events")


@asynccontextmanager
async def telling(pool: Pool, *expected: str) -> AsyncIterator[list[dict[str, Any]]]:
    """Let the block cause events: all of `expected` and no other. The list has their data at its end."""
    ((before,),) = await read_rows(pool, "SELECT coalesce(max(n), 0) FROM events")
    told: list[dict[str, Any]] = []
    yield told
    found: list[tuple[str, dict[str, Any]]] = []
    with trio.move_on_after(10):
        while len(found) < len(expected):
            found = [(kind, data) for kind, data in await read_rows(pool, _SINCE, before)]
            await trio.sleep(0.01)
    found = [(kind, data) for kind, data in await read_rows(pool, _SINCE, before)]
    assert [kind for kind, _ in found] == list(expected), found
    for kind, data in found:
        assert kind in TYPES
        assert data.keys() <= FACTS[kind.partition(".")[0]], (kind, data)
        assert "@" not in json.dumps(data)
    told += [data for _, data in found]
