"""The relay: carries the ids of due mails from PostgreSQL to RabbitMQ.

What the broker confirmed is noted; what it did not is given back at once. It may be published twice, or lost: the
claim makes the first harmless, and five minutes without a claim end the second, unless it is seen to wait in the queue.
When the queue turns out to be empty, on connecting or later, whatever it should have held is due again at once.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

import structlog
import trio

from regsvc.consumer.due import listen_due
from regsvc.errors import BrokerUnavailableError, DatabaseUnavailableError
from regsvc.mail.queue import publishing
from regsvc.metrics import PUBLISHED, QUEUED
from regsvc.postgres.pool import Pool
from regsvc.rabbitmq import Publisher, open_publisher, queues
from regsvc.waiting import Alarm, wait_any

log = structlog.get_logger()

BATCH = 200  # ids that are taken, and in flight to the broker, at a time
_POLL = 2.0  # seconds between looks when no notification came
_LOOK_EVERY = 5.0  # seconds between looks at the queue
_STRANDING = 5.0  # seconds that giving mails to the mailer takes at most, before the broker is dialled again


async def run_relay(
    *,
    pool: Pool,
    conninfo: str,
    url: str,
    stopping: trio.Event,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Publish what is due until `stopping` is set.

    Args:
        pool: PostgreSQL.
        conninfo: of the connection that hears of new mails.
        url: RabbitMQ.
        stopping: ends it.
        task_status: told once it is connected.

    Raises:
        BrokerUnavailableError: the broker is away; what it has not passed on is given to the mailer first.
        DatabaseUnavailableError: the database is away.
    """
    try:
        async with open_publisher(url) as publisher, trio.open_nursery() as nursery:
            woken = Alarm()
            await nursery.start(listen_due, conninfo, pool, woken)
            nursery.start_soon(publisher.wait_closed)
            nursery.start_soon(_watch_dead_letters, publisher)
            task_status.started()
            await _publish_due(pool, publisher, woken, stopping)
            nursery.cancel_scope.cancel()
    except* BrokerUnavailableError:
        QUEUED.clear()
        await _strand(pool)
        raise


async def _publish_due(pool: Pool, publisher: Publisher, woken: Alarm, stopping: trio.Event) -> None:
    lost = _Lost() if publisher.messages_ready == 0 else None
    next_look = trio.current_time() + _LOOK_EVERY
    while not stopping.is_set():
        # An alarm on the broker's side: what waits longer than ten seconds is sent past it.
        await wait_any(stopping.wait, publisher.wait_unblocked)
        if lost is not None and not await _release_lost(pool, lost):
            lost = None
        async with pool.connection() as conn:
            mail_ids = await publishing.take_for_publishing(conn, BATCH)
        failed = False
        if mail_ids:
            failed = await _publish(pool, publisher, mail_ids)
        if failed or (len(mail_ids) < BATCH and lost is None):
            await wait_any(stopping.wait, woken.wait, seconds=_POLL)
        if trio.current_time() >= next_look and not publisher.blocked:
            # An operator may have purged or deleted the queue, of which only its consumers hear.
            next_look = trio.current_time() + _LOOK_EVERY
            ready = await publisher.count_ready()
            QUEUED.labels(queues.MAILS).set(ready)
            if ready == 0:
                lost = lost or _Lost(publishing.BROKER_MISSED)
            else:
                await _review(pool, ready)


async def _watch_dead_letters(publisher: Publisher) -> None:
    """Keep the queue of dead letters declared and count what waits there, beside publishing.

    In a cluster the node that has it may be down for long, and mails need it for nothing.
    """
    caught = True
    while True:
        try:
            if not publisher.blocked:
                QUEUED.labels(queues.DEAD).set(await publisher.count_dead_letters())
                if not caught:
                    caught = True
                    log.info("dead letters are caught again")
        except BrokerUnavailableError as error:
            publisher.check_open()
            with suppress(KeyError):
                QUEUED.remove(queues.DEAD)
            if caught:
                caught = False
                log.warning("dead letters are not caught", why=str(error))
        await trio.sleep(_LOOK_EVERY)


async def _publish(pool: Pool, publisher: Publisher, mail_ids: list[UUID]) -> bool:
    """Publish mails, note what became of each, and say whether any failed."""
    result = await publisher.publish(mail_ids)
    async with pool.connection() as conn:
        if result.confirmed:
            await publishing.note_published(conn, result.confirmed)
        if result.failed:
            await publishing.release_unpublished(conn, list(result.failed))
    PUBLISHED.inc(len(result.confirmed))
    for mail_id in result.confirmed:
        log.info("mail published", mail=str(mail_id))
    if result.failed:
        log.warning("messages not published", failed=dict(Counter(result.failed.values())))
    return bool(result.failed)


@dataclass(frozen=True)
class _Lost:
    """The queue was found empty: what was published so long before that, and is not claimed, is lost.

    It is released a batch at a time, between batches that are published: there may be very many, and what is
    published again meanwhile is not lost.

    Args:
        unclaimed_for: how long before it was found.
        found_at: when, by Trio's clock.
    """

    unclaimed_for: timedelta = timedelta(0)
    found_at: float = field(default_factory=trio.current_time)

    @property
    def age(self) -> timedelta:
        """How long ago a mail must have been published by now."""
        return self.unclaimed_for + timedelta(seconds=trio.current_time() - self.found_at)


async def _release_lost(pool: Pool, lost: _Lost) -> bool:
    """Make a batch of lost mails due, and return whether there may be more."""
    async with pool.connection() as conn:
        released = await publishing.release_published(conn, unclaimed_for=lost.age)
    if released:
        log.warning("queue came back empty", mails=released)
    return released == publishing.BATCH


async def _review(pool: Pool, ready: int) -> None:
    """Publish again what was published and is neither in the queue, where so many wait, nor claimed."""
    async with pool.transaction() as conn:
        reviewed = await publishing.review_published(conn, ready)
    if reviewed.released:
        log.warning("messages missing from the queue", mails=reviewed.released)
    elif reviewed.kept:
        log.debug("messages still in the queue", mails=reviewed.kept)


async def _strand(pool: Pool) -> None:
    """Let mails be sent past a broker that is gone; what that takes too long for, the next life goes on with."""
    stranded = batch = 0
    try:
        with trio.move_on_after(_STRANDING):
            while True:
                async with pool.connection() as conn:
                    batch = await publishing.strand_published(conn)
                stranded += batch
                if batch < publishing.BATCH:
                    break
    except DatabaseUnavailableError as error:
        log.warning("mails wait for the broker", why=str(error))
    if stranded:
        log.warning("mails go past the broker", mails=stranded)
