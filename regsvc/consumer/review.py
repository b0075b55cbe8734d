"""The review: looks for changes of which those who wait have not heard.

A notification wakes, a look makes sure: one statement tells how far hundreds of registrations have come, and only those
who wait for one that moved are advised to read it. They are advised a few at a time, since they all read at once.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TypeVar
from uuid import UUID

import trio

from regsvc.accounts.registrations.registration import list_seqs
from regsvc.live import LiveHub
from regsvc.postgres.pool import Pool
from regsvc.waiting import wait_any

BATCH = 500  # registrations a statement
GROUP = 20  # registrations whose waiters read at the same time
_PAUSE = 0.05  # seconds between two groups
_EVERY = (15.0, 30.0)  # seconds between two looks, at random so that processes spread

T = TypeVar("T")


async def run_review(
    *,
    pool: Pool,
    hub: LiveHub,
    stopping: trio.Event,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Look now and then, and whenever the hub is in doubt, until `stopping` is set.

    Args:
        pool: PostgreSQL.
        hub: who waits, and is told.
        stopping: ends it.
        task_status: told at once.

    Raises:
        DatabaseUnavailableError: the database is away.
    """
    task_status.started()
    while not stopping.is_set():
        await wait_any(stopping.wait, partial(_review, pool, hub))
        seconds = random.uniform(*_EVERY)  # noqa: S311 - no secret
        await wait_any(stopping.wait, hub.wait_doubt, seconds=seconds)


async def _review(pool: Pool, hub: LiveHub) -> None:
    for batch in _split(list(hub.watched().items()), BATCH):
        async with pool.connection() as conn:
            known = await list_seqs(conn, [registration_id for registration_id, _ in batch])
        moved: list[UUID] = [which for which, seen in batch if known.get(which) != seen]
        for group in _split(moved, GROUP):
            for registration_id in group:
                hub.announce(registration_id)
            await trio.sleep(_PAUSE)


def _split(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
