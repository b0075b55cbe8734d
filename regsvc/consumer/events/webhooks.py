"""Send events to webhooks (Standard Webhooks).

Each webhook has room for a few requests of its own, so a slow receiver holds up no other. A claim takes as many events
as there is room for, and each is sent at once: the lease outlives the request.
"""

from __future__ import annotations

import ssl
import time
from collections import Counter
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from uuid import UUID

import structlog
import trio

from regsvc.accounts.audit.record import By
from regsvc.accounts.events.deliveries import (
    DELIVERIES,
    Delivery,
    book_delivered,
    book_failed,
    claim_deliveries,
    delay_after,
    find_email,
)
from regsvc.accounts.events.replay import continue_replay
from regsvc.accounts.events.sinks import Receiver, list_receivers, note_attempt
from regsvc.accounts.events.types import CONTENT_TYPE, write_event
from regsvc.accounts.events.webhooks import WebhookNotFoundError, disable_failing, end_webhook
from regsvc.errors import DatabaseUnavailableError
from regsvc.jobs.due import listen_due
from regsvc.jobs.leading import AlwaysLead, Lead
from regsvc.metrics import EVENTS
from regsvc.postgres.pool import Pool
from regsvc.security.seals import UnsealError
from regsvc.security.tokens import Secrets
from regsvc.tracing.spans import begin_span, entered
from regsvc.tracing.trace_context import read_stored
from regsvc.waiting import Alarm, wait_any
from regsvc.webhooks.networks import Network
from regsvc.webhooks.request import Reply, UnreachableError, post
from regsvc.webhooks.signature import sign

log = structlog.get_logger()

EACH = 8  # requests at a time to one webhook
SECONDS = 15.0  # for a request and its answer
GONE = 410
_POLL = 2.0  # seconds between looks without a notification
_SERVICE = By("service")


@dataclass(frozen=True)
class WebhookSender:
    """How webhooks are called.

    Args:
        secrets: open the webhooks' secrets.
        source: the public URL of this service.
        allowed: networks that may be reached although they are private.
        with_address: whether events get the address of their subject.
        tls: checks certificates; None uses the system's authorities.
    """

    secrets: Secrets
    source: str
    allowed: tuple[Network, ...] = ()
    with_address: bool = False
    tls: ssl.SSLContext | None = field(default=None, repr=False)

    async def send(self, receiver: Receiver, event_id: str, body: bytes) -> Reply:
        """Send a signed event once.

        Raises:
            UnreachableError: no answer, or the webhook's secret does not open.
        """
        try:
            keys = receiver.open_secrets(self.secrets)
        except UnsealError as error:
            raise UnreachableError("secret sealed with another key") from error
        headers = {"Content-Type": CONTENT_TYPE, **sign(keys, event_id, int(time.time()), body)}
        return await post(receiver.url, headers, body, allowed=self.allowed, seconds=SECONDS, tls=self.tls)


async def run_webhooks(
    *,
    pool: Pool,
    conninfo: str,
    sender: WebhookSender,
    stopping: trio.Event,
    lead: Lead | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Send events to webhooks until `stopping` is set, and finish the requests under way.

    Args:
        pool: PostgreSQL.
        conninfo: of the connection that receives notifications.
        sender: how webhooks are called.
        stopping: ends the child.
        lead: whether this process polls often; by default it does.
        task_status: reports the start.

    Raises:
        DatabaseUnavailableError: the database is unavailable.
    """
    woken, under_way = Alarm(), Counter[UUID]()
    lead = lead or AlwaysLead()
    async with trio.open_nursery() as listening:
        await listening.start(listen_due, conninfo, pool, DELIVERIES, woken)
        task_status.started()
        async with trio.open_nursery() as nursery:
            while not stopping.is_set():
                async with pool.connection() as conn:
                    receivers = {each.id: each for each in await list_receivers(conn)}
                    room = {id_: EACH - under_way[id_] for id_ in receivers if under_way[id_] < EACH}
                    if any(each.replaying for each in receivers.values()):
                        async with conn.transaction():
                            await continue_replay(conn)
                    claimed = await claim_deliveries(conn, room) if room else []
                for delivery in claimed:
                    under_way[delivery.sink_id] += 1
                    nursery.start_soon(
                        partial(
                            _deliver,
                            pool,
                            sender,
                            receivers[delivery.sink_id],
                            delivery,
                            under_way=under_way,
                            woken=woken,
                        )
                    )
                await wait_any(stopping.wait, woken.wait, lead.wait_turn, seconds=lead.pace(_POLL))
        listening.cancel_scope.cancel()


async def _deliver(
    pool: Pool,
    sender: WebhookSender,
    receiver: Receiver,
    delivery: Delivery,
    *,
    under_way: Counter[UUID],
    woken: Alarm,
) -> None:
    """Make one attempt and record it. If the database is away then, the lease expires and the event is sent again."""
    try:
        email = None
        if sender.with_address:
            async with pool.connection() as conn:
                email = await find_email(conn, delivery.event)
        body = write_event(delivery.event, sender.source, email=email)
        status, reason = await _call(sender, receiver, delivery, body)
        await _book(pool, receiver, delivery, status, reason)
    except DatabaseUnavailableError as error:
        log.warning("delivery not recorded", delivery=str(delivery.id), why=str(error))
    finally:
        under_way[receiver.id] -= 1
        woken.sound()


async def _call(
    sender: WebhookSender, receiver: Receiver, delivery: Delivery, body: bytes
) -> tuple[int | None, str]:
    """Call a webhook; return the status of its answer, if there is one, and what is wrong, if anything."""
    span = begin_span(
        "call webhook",
        "client",
        links=(read_stored(delivery.trace),),
        attributes={"regsvc.event.type": delivery.event["type"], "regsvc.event.attempt": delivery.attempts},
    )
    status, reason = None, ""
    with nullcontext() if span is None else entered(span):
        try:
            reply = await sender.send(receiver, delivery.event["id"], body)
            status, reason = reply.status, "" if reply.taken else f"status {reply.status}"
        except UnreachableError as error:
            reason = str(error)
        if span is not None:
            span.note({} if status is None else {"http.response.status_code": status})
            if reason:
                span.fail()
    return status, reason


async def _book(pool: Pool, receiver: Receiver, delivery: Delivery, status: int | None, reason: str) -> None:
    async with pool.transaction() as conn:
        after = None if status == GONE else delay_after(delivery.attempts)
        if not reason:
            await book_delivered(conn, [delivery], status)
        else:
            await book_failed(conn, delivery, reason, status, after)
        if status == GONE:  # in the same transaction: what waited behind this event is not sent
            with suppress(WebhookNotFoundError):  # another attempt was told the same
                await end_webhook(conn, receiver.id, "gone", _SERVICE)
                log.warning("webhook ended", webhook=str(receiver.id), reason="gone")
        else:
            await note_attempt(conn, receiver.id, succeeded=not reason)
            if reason and after is None and await disable_failing(conn, receiver.id, _SERVICE):
                log.warning("webhook disabled", webhook=str(receiver.id), reason="failing")
    EVENTS.labels("webhook", "failed" if reason else "delivered").inc()
    if reason:
        log.info(
            "webhook failed",
            webhook=str(receiver.id),
            event_id=delivery.event["id"],
            attempts=delivery.attempts,
            reason=reason,
        )
