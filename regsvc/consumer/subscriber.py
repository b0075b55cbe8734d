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
from regsvc.mail.queue.verdict import Breaker
from regsvc.metrics import MALFORMED, UNCLAIMED
from regsvc.postgres.connection import Connection
from regsvc.rabbitmq import Consumer, Delivery, open_consumer
from regsvc.waiting import wait_any

log = structlog.get_logger()

_AGAIN = 0.2  # seconds until a row held by another transaction is retried


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
            while True:
                await wait_any(stopping.wait, courier.wait_room)
                seconds = _AGAIN if locked else math.inf
                messages = [*locked, *await _receive(consumer, stopping, courier.room - len(locked), seconds)]
                if stopping.is_set():
                    break
                locked = await _take(courier, consumer, held, messages)
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
    courier: Courier, consumer: Consumer, held: dict[UUID, Delivery], messages: Sequence[Delivery]
) -> list[Delivery]:
    """Claim the messages of these deliveries, and return the deliveries whose rows another transaction holds.

    The prefetch equals the room, so there is always enough.
    """
    if not messages:
        return []
    locked: set[UUID] = set()

    async def claim(conn: Connection, _: Breaker) -> list[Job]:
        wanted = {message.mail_id for message in messages}
        claimed = await jobs.claim_mails(conn, list(wanted))
        others = wanted - {job.id for job in claimed}
        if others:
            locked.update(await find_claimable(conn, jobs.MAIL_JOBS, others))
        return claimed

    taken = await take(courier, claim)
    if taken is None:  # the process is ending or the courier restarts: they will be redelivered
        for message in messages:
            await message.requeue()
        return []
    done: list[Delivery] = []
    for message in messages:
        if message.mail_id in locked:
            continue
        if message.mail_id in taken.in_hand and message.mail_id not in held:
            held[message.mail_id] = message
        else:  # not to be sent, or a duplicate delivery
            done.append(message)
    if done:
        UNCLAIMED.inc(len(done))
        await consumer.ack(done)
    return [message for message in messages if message.mail_id in locked]


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
