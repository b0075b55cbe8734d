"""Publish events to an exchange in RabbitMQ.

A broker that is away costs events no attempt: they wait. An exchange that was deleted ends the connection, and is
declared again by the next one. What queues of consumers lost with a broker is repeated by `regsvc events replay`.
"""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

import structlog
import trio

from regsvc.accounts.events.deliveries import DELIVERIES, Delivery, book_delivered, claim_deliveries
from regsvc.accounts.events.sinks import note_exchange
from regsvc.accounts.events.types import CONTENT_TYPE, write_event
from regsvc.errors import DatabaseUnavailableError
from regsvc.jobs.due import listen_due
from regsvc.jobs.leading import AlwaysLead, Lead
from regsvc.jobs.leases import release_jobs
from regsvc.metrics import EVENTS
from regsvc.postgres.pool import Pool
from regsvc.rabbitmq import EventMessage, EventPublisher, PublishFailure, open_event_publisher
from regsvc.tracing.spans import Span, begin_span
from regsvc.tracing.trace_context import read_stored
from regsvc.waiting import Alarm, wait_any

log = structlog.get_logger()

BATCH = 200  # events in flight
_POLL = 2.0  # seconds between looks without a notification
_SEEN_EVERY = 3600.0  # seconds


async def run_event_exchange(
    *,
    pool: Pool,
    conninfo: str,
    url: str,
    exchange: str,
    source: str,
    stopping: trio.Event,
    lead: Lead | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Publish events until `stopping` is set.

    Args:
        pool: PostgreSQL.
        conninfo: of the connection that receives notifications.
        url: RabbitMQ.
        exchange: name of the exchange.
        source: the public URL of this service.
        stopping: ends the child.
        lead: whether this process polls often; by default it does.
        task_status: reports the connection.

    Raises:
        BrokerUnavailableError: the broker is unavailable.
        DatabaseUnavailableError: the database is unavailable.
    """
    async with pool.connection() as conn:
        sink = await note_exchange(conn, exchange)  # first: from here on, events are written
    lead = lead or AlwaysLead()
    async with open_event_publisher(url, exchange) as publisher, trio.open_nursery() as nursery:
        woken = Alarm()
        await nursery.start(listen_due, conninfo, pool, DELIVERIES, woken)
        nursery.start_soon(publisher.wait_closed)
        task_status.started()
        with lead.stand():
            next_note = trio.current_time() + _SEEN_EVERY
            while not stopping.is_set():
                await wait_any(stopping.wait, publisher.wait_unblocked)
                async with pool.connection() as conn:
                    if trio.current_time() >= next_note:
                        next_note = trio.current_time() + _SEEN_EVERY
                        await note_exchange(conn, exchange)
                    claimed = await claim_deliveries(conn, {sink: BATCH})
                if not claimed or not await _publish(pool, publisher, claimed, source):
                    await wait_any(stopping.wait, woken.wait, lead.wait_turn, seconds=lead.pace(_POLL))
        nursery.cancel_scope.cancel()


async def _publish(pool: Pool, publisher: EventPublisher, claimed: list[Delivery], source: str) -> bool:
    """Publish claimed events, record each, and return whether all went."""
    jobs = {UUID(job.event["id"]): job for job in claimed}
    spans = _begin_spans(jobs)
    messages = [
        EventMessage(
            id_,
            job.event["type"],
            write_event(job.event, source),
            CONTENT_TYPE,
            spans[id_].context.header if id_ in spans else None,
        )
        for id_, job in jobs.items()
    ]
    unsent = list(jobs.values())
    try:
        result = await publisher.publish_events(messages)
        unroutable = [id_ for id_, why in result.failed.items() if why is PublishFailure.RETURNED]
        taken = [jobs[id_] for id_ in (*result.confirmed, *unroutable)]
        unsent = [job for job in unsent if job not in taken]
        if taken:
            async with pool.transaction() as conn:
                await book_delivered(conn, taken)
    finally:
        for id_, span in spans.items():
            if jobs[id_] in unsent:
                span.fail()
            span.end()
        if unsent:
            with trio.CancelScope(shield=True):
                await _release(pool, unsent)
    EVENTS.labels("exchange", "confirmed").inc(len(result.confirmed))
    EVENTS.labels("exchange", "unroutable").inc(len(unroutable))
    log.debug("events published", count=len(taken), unroutable=len(unroutable))
    if unsent:
        log.warning("events not published", count=len(unsent))
    return not unsent


def _begin_spans(jobs: Mapping[UUID, Delivery]) -> dict[UUID, Span]:
    """Begin a span for each event of a traced request."""
    spans = {
        id_: begin_span(
            "publish event",
            "producer",
            links=(read_stored(job.trace),),
            attributes={"messaging.system": "rabbitmq", "regsvc.event.type": job.event["type"]},
        )
        for id_, job in jobs.items()
        if job.trace is not None
    }
    return {id_: span for id_, span in spans.items() if span is not None}


async def _release(pool: Pool, jobs: list[Delivery]) -> None:
    try:
        async with pool.connection() as conn:
            await release_jobs(conn, DELIVERIES, jobs)
    except DatabaseUnavailableError as error:
        log.warning("events wait for their leases", why=str(error))
