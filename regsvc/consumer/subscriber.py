"""The subscriber: claims messages whose ids RabbitMQ delivers.

A delivery is a hint that a message is due; the claim in PostgreSQL decides. A claimed message's delivery is
acknowledged once its outcome is committed, an unclaimable one's at once. If another transaction holds the row, the
delivery is kept and the claim retried. When the broker is lost, claimed messages stay with the courier: their
redeliveries find nothing to claim.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from contextlib import suppress
from uuid import UUID

import structlog
import trio

from regsvc.consumer.sending.courier import Courier
from regsvc.consumer.sending.delivery import take
from regsvc.errors import BrokerUnavailableError
from regsvc.jobs.claims import find_claimable
from regsvc.mail.queue import jobs
from regsvc.mail.queue.jobs import Job
from regsvc.mail.queue.precedence import Precedence, claim_published
from regsvc.mail.queue.verdict import Breaker
from regsvc.metrics import MALFORMED, UNCLAIMED
from regsvc.postgres.connection import Connection
from regsvc.rabbitmq import Consumer, Delivery, open_consumer
from regsvc.waiting import wait_any

log = structlog.get_logger()

_AGAIN = 0.2  # seconds until a row held by another transaction is retried
_BEHIND = 4  # a receipt of this part of the room, or more, shows a backlog
_CALM = 1.0  # seconds after the last such receipt until there is none


async def run_subscriber(
    *,
    courier: Courier,
    url: str,
    stopping: trio.Event,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Claim what the broker delivers until `stopping` is set; then acknowledge what the courier finishes.

    Args:
        courier: sends the messages.
        url: RabbitMQ.
        stopping: ends the subscriber.
        task_status: reports the start of consuming.

    Raises:
        BrokerUnavailableError: the broker is unavailable.
        DatabaseUnavailableError: the database is unavailable.
    """
    held: dict[UUID, Delivery] = {}
    booked, to_acknowledge = trio.open_memory_channel[Collection[UUID]](math.inf)
    async with (
        open_consumer(url, prefetch=courier.room, on_malformed=_note_malformed) as consumer,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(_acknowledge, consumer, held, to_acknowledge)
        task_status.started()
        with booked, courier.in_hand.telling(booked.send_nowait):
            locked: list[Delivery] = []
            precedence, behind_until = Precedence(), -math.inf
            while True:
                await wait_any(stopping.wait, courier.wait_room)
                seconds = _AGAIN if locked else math.inf
                messages = [*locked, *await _receive(consumer, stopping, courier.room - len(locked), seconds)]
                if stopping.is_set():
                    break
                if len(messages) * _BEHIND >= courier.room:
                    behind_until = trio.current_time() + _CALM
                precedence.behind = trio.current_time() < behind_until
                locked = await _take(courier, consumer, held, messages, precedence)
            with suppress(BrokerUnavailableError):  # other consumers may have them at once
                for message in (*messages, *await consumer.stop()):
                    await message.requeue()
            await courier.wait_ended()


async def _receive(consumer: Consumer, stopping: trio.Event, limit: int, seconds: float) -> list[Delivery]:
    messages: list[Delivery] = []

    async def receive() -> None:
        messages.extend(await consumer.receive(max(1, limit)))

    await wait_any(stopping.wait, receive, seconds=seconds)
    return messages


async def _take(
    courier: Courier,
    consumer: Consumer,
    held: dict[UUID, Delivery],
    messages: Sequence[Delivery],
    precedence: Precedence,
) -> list[Delivery]:
    """Claim as many messages as were delivered, and return the deliveries whose rows another transaction holds.

    While there is a backlog, a delivery is taken for the best or the oldest published message, whichever it names. Each
    published message has one delivery, so the others' deliveries are enough for the rest. The prefetch equals the room,
    so there is always enough.
    """
    if not messages:
        return []
    locked: set[UUID] = set()
    jobs_claimed: list[Job] = []

    async def claim(conn: Connection, _: Breaker) -> list[Job]:
        wanted = {message.mail_id for message in messages}
        locked.clear()
        if precedence.behind:
            best = precedence.takes_best(len(messages))
            claimed = await claim_published(conn, list(wanted), best=best)
            precedence.note(len(claimed), limit=len(messages), best=best)
        else:
            claimed = await jobs.claim_mails(conn, list(wanted))
        jobs_claimed[:] = claimed
        others = wanted - {job.id for job in claimed}
        if others and len(claimed) < len(messages):
            locked.update(await find_claimable(conn, jobs.MAIL_JOBS, others))
        return claimed

    taken = await take(courier, claim, published={message.mail_id: message.published for message in messages})
    if taken is None:  # the process is ending or the courier restarts: they will be redelivered
        for message in messages:
            await message.requeue()
        return []
    done: list[Delivery] = []
    for message, mail_id in _assign(messages, [job.id for job in jobs_claimed], locked):
        if mail_id in taken.in_hand and mail_id not in held:
            held[mail_id] = message
        else:  # not to be sent, or a duplicate delivery
            done.append(message)
    if done:
        UNCLAIMED.inc(len(done))
        await consumer.ack(done)
    return [message for message in messages if message.mail_id in locked]


def _assign(
    messages: Sequence[Delivery], claimed: Sequence[UUID], locked: Collection[UUID]
) -> list[tuple[Delivery, UUID]]:
    """Return each delivery that is not kept, with the claimed message that it stands for, its own if possible."""
    own = {message.mail_id for message in messages}
    others = [mail_id for mail_id in claimed if mail_id not in own]
    taken: set[UUID] = set()
    pairs: list[tuple[Delivery, UUID]] = []
    for message in messages:
        mail_id = message.mail_id
        if mail_id in locked:
            continue
        if mail_id not in claimed or mail_id in taken:
            mail_id = others.pop() if others else mail_id
        taken.add(mail_id)
        pairs.append((message, mail_id))
    return pairs


async def _acknowledge(
    consumer: Consumer,
    held: dict[UUID, Delivery],
    booked: trio.MemoryReceiveChannel[Collection[UUID]],
) -> None:
    """Acknowledge deliveries of finished messages until the channel closes."""
    async for mail_ids in booked:
        messages = [held.pop(mail_id) for mail_id in mail_ids if mail_id in held]
        # The outcome is committed: a redelivery will find nothing to claim.
        with suppress(BrokerUnavailableError):
            await consumer.ack(messages)


def _note_malformed(why: str) -> None:
    MALFORMED.labels(why).inc()
    log.warning("message malformed: moved to the dead letters", why=why)
