"""The review: looks for changes that waiting clients have missed.

Notifications wake waiters; the review guarantees. One statement returns the progress of hundreds of registrations, and
only waiters of changed ones are told to read. They are told in small groups, because each group reads at once.
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

BATCH = 500  # registrations per statement
GROUP = 20  # registrations whose waiters read concurrently
_PAUSE = 0.05  # seconds between groups
_EVERY = (15.0, 30.0)  # seconds between reviews, random so that processes spread

T = TypeVar("T")


async def run_review(
    *,
    pool: Pool,
    hub: LiveHub,
    stopping: trio.Event,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Review now and then, and whenever the hub is in doubt, until `stopping` is set.

    Args:
        pool: PostgreSQL.
        hub: holds the waiters.
        stopping: ends the review.
        task_status: reports the start at once.

    Raises:
        DatabaseUnavailableError: the database is unavailable.
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
