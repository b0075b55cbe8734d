"""The relay: publishes the ids of due messages from PostgreSQL to RabbitMQ.

Confirmed publishes are recorded; others are released at once. A message may be published twice, which the claim makes
harmless, or lost: then it is published again after five minutes without a claim, unless the queue still holds it. When
the queue turns out to be empty, on connecting or later, all messages it should hold are due at once.

Of several relays, the leader looks at the queue and polls often. The others wake for notifications.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

import structlog
import trio

from regsvc.errors import BrokerUnavailableError, DatabaseUnavailableError
from regsvc.jobs.due import listen_due
from regsvc.jobs.leading import AlwaysLead, Lead
from regsvc.mail.queue import publishing
from regsvc.mail.queue.jobs import MAIL_JOBS
from regsvc.mail.queue.precedence import Precedence
from regsvc.metrics import PUBLISHED, QUEUED
from regsvc.postgres.pool import Pool
from regsvc.rabbitmq import Publisher, open_publisher, queues
from regsvc.tracing.spans import Span, begin_span, is_on
from regsvc.tracing.trace_context import read_stored
from regsvc.waiting import Alarm, wait_any

log = structlog.get_logger()

BATCH = 200  # ids taken, and in flight to the broker, at a time
_POLL = 2.0  # seconds between polls without a notification
_LOOK_EVERY = 5.0  # seconds between checks of the queue
_PUBLISHING = {
    "messaging.system": "rabbitmq",
    "messaging.operation.name": "publish",
    "messaging.operation.type": "send",
    "messaging.destination.name": queues.MAILS,
}
_STRANDING = 5.0  # seconds that handing messages to the mailer may take before the broker is dialled again


async def run_relay(
    *,
    pool: Pool,
    conninfo: str,
    url: str,
    stopping: trio.Event,
    lead: Lead | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Publish due messages until `stopping` is set.

    Args:
        pool: PostgreSQL.
        conninfo: of the connection that receives notifications.
        url: RabbitMQ.
        stopping: ends the relay.
        lead: whether this process polls often and reviews what was published; by default it does.
        task_status: reports the connection.

    Raises:
        BrokerUnavailableError: the broker is unavailable; its messages are handed to the mailer first.
        DatabaseUnavailableError: the database is unavailable.
    """
    lead = lead or AlwaysLead()
    try:
        async with open_publisher(url) as publisher, trio.open_nursery() as nursery:
            woken = Alarm()
            await nursery.start(listen_due, conninfo, pool, MAIL_JOBS, woken)
            nursery.start_soon(publisher.wait_closed)
            nursery.start_soon(_watch_dead_letters, publisher)
            task_status.started()
            with lead.stand():
                await _publish_due(pool, publisher, woken, lead, stopping)
            nursery.cancel_scope.cancel()
    except* BrokerUnavailableError:
        QUEUED.clear()
        await _strand(pool)
        raise


async def _publish_due(
    pool: Pool, publisher: Publisher, woken: Alarm, lead: Lead, stopping: trio.Event
) -> None:
    lost = _Lost() if publisher.messages_ready == 0 else None
    next_look, precedence = trio.current_time() + _LOOK_EVERY, Precedence()
    while not stopping.is_set():
        # The broker blocks publishers: messages waiting longer than ten seconds bypass it.
        await wait_any(stopping.wait, publisher.wait_unblocked)
        if lost is not None and not await _release_lost(pool, lost):
            lost = None
        async with pool.connection() as conn:
            best = precedence.takes_best(BATCH)
            mail_ids = await publishing.take_for_publishing(conn, BATCH, best=best)
        precedence.note(len(mail_ids), limit=BATCH, best=best)
        failed = False
        if mail_ids:
            failed = await _publish(pool, publisher, mail_ids)
        if failed or (len(mail_ids) < BATCH and lost is None and not best):
            await wait_any(stopping.wait, woken.wait, lead.wait_turn, seconds=lead.pace(_POLL))
        if trio.current_time() >= next_look and not publisher.blocked:
            # The queue may have been purged or deleted, of which the broker informs only consumers.
            next_look = trio.current_time() + _LOOK_EVERY
            ready = await publisher.count_ready()
            QUEUED.labels(queues.MAILS).set(ready)
            if ready == 0 and lead.ours:
                lost = lost or _Lost(publishing.BROKER_MISSED)
            elif lead.ours:
                await _review(pool, ready)


async def _watch_dead_letters(publisher: Publisher) -> None:
    """Keep the dead letter queue declared and count its messages, beside publishing.

    In a cluster its node may be down for long, and sending mail does not need it.
    """
    caught = True
    while True:
        try:
            if not publisher.blocked:
                QUEUED.labels(queues.DEAD).set(await publisher.count_dead_letters())
                if not caught:
                    caught = True
                    log.info("dead letter queue available again")
        except BrokerUnavailableError as error:
            publisher.check_open()
            with suppress(KeyError):
                QUEUED.remove(queues.DEAD)
            if caught:
                caught = False
                log.warning("dead letter queue unavailable", why=str(error))
        await trio.sleep(_LOOK_EVERY)


async def _publish(pool: Pool, publisher: Publisher, mail_ids: list[UUID]) -> bool:
    """Publish messages, record each result, and return whether any failed."""
    spans = await _begin_spans(pool, mail_ids) if is_on() else {}
    confirmed: Collection[UUID] = ()
    try:
        headers = {mail_id: span.context.header for mail_id, span in spans.items()}
        result = await publisher.publish(mail_ids, headers)
        confirmed = set(result.confirmed)
    finally:
        for mail_id, span in spans.items():
            if mail_id not in confirmed:
                span.fail()
            span.end()
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


async def _begin_spans(pool: Pool, mail_ids: list[UUID]) -> dict[UUID, Span]:
    """Begin a span for each message whose request was traced, as a part of that."""
    async with pool.connection() as conn:
        found = await publishing.find_traces(conn, mail_ids)
    spans = {
        mail_id: begin_span(
            f"publish {queues.MAILS}",
            "producer",
            parent=read_stored(stored),
            attributes=_PUBLISHING | {"messaging.message.id": str(mail_id)},
        )
        for mail_id, stored in found.items()
    }
    return {mail_id: span for mail_id, span in spans.items() if span is not None}


@dataclass(frozen=True)
class _Lost:
    """The queue was found empty: messages published long enough before that and unclaimed are lost.

    They are released in batches, between published batches: there may be very many, and messages published again
    meanwhile are not lost.

    Args:
        unclaimed_for: minimum time since publishing when it was found.
        found_at: time of the discovery by Trio's clock.
    """

    unclaimed_for: timedelta = timedelta(0)
    found_at: float = field(default_factory=trio.current_time)

    @property
    def age(self) -> timedelta:
        """Return how long ago a lost message must have been published."""
        return self.unclaimed_for + timedelta(seconds=trio.current_time() - self.found_at)


async def _release_lost(pool: Pool, lost: _Lost) -> bool:
    """Make a batch of lost messages due, and return whether there may be more."""
    async with pool.connection() as conn:
        released = await publishing.release_published(conn, unclaimed_for=lost.age)
    if released:
        log.warning("queue found empty", mails=released)
    return released == publishing.BATCH


async def _review(pool: Pool, ready: int) -> None:
    """Publish again published messages that are neither claimed nor among the `ready` in the queue."""
    async with pool.transaction() as conn:
        reviewed = await publishing.review_published(conn, ready)
    if reviewed.released:
        log.warning("messages missing from the queue", mails=reviewed.released)
    elif reviewed.kept:
        log.debug("messages still in the queue", mails=reviewed.kept)


async def _strand(pool: Pool) -> None:
    """Let messages bypass a lost broker; what exceeds the time limit is left to the next start."""
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
        log.warning("mails bypass the broker", mails=stranded)
