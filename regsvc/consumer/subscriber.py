"""The subscriber: sends the mails whose ids RabbitMQ brings.

A message is a hint that a mail is due; the claim in PostgreSQL decides. What could be claimed is acknowledged once
its outcome is committed, what could not (sent, in hand elsewhere, not due any more) at once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import aclosing, suppress
from functools import partial
from uuid import UUID

import structlog
import trio

from regsvc.consumer.delivery import Delivery as MailDelivery
from regsvc.consumer.delivery import open_delivery
from regsvc.consumer.letters import LetterWriter
from regsvc.errors import BrokerUnavailableError
from regsvc.mail import jobs
from regsvc.mail.transport import Transport
from regsvc.metrics import MALFORMED, UNCLAIMED
from regsvc.postgres.pool import Pool
from regsvc.rabbitmq import Consumer, Delivery, open_consumer
from regsvc.waiting import wait_any

log = structlog.get_logger()


async def run_subscriber(
    *,
    pool: Pool,
    url: str,
    open_transport: Callable[[], Transport],
    writer: LetterWriter,
    sessions: int,
    spaced: bool,
    stopping: trio.Event,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Send what the broker brings until `stopping` is set; then finish what is in hand.

    Args:
        pool: PostgreSQL.
        url: RabbitMQ.
        open_transport: opens the way to the mail server.
        writer: makes mails of letters.
        sessions: how many mails are sent at the same time.
        spaced: mails of one address keep to its schedule.
        stopping: ends it.
        task_status: told once it consumes.

    Raises:
        BrokerUnavailableError: the broker is away.
        DatabaseUnavailableError: the database is away.
    """
    async with (
        aclosing(open_transport()) as transport,
        open_delivery(
            pool, transport, writer, sessions=sessions, spaced=spaced, stopping=stopping
        ) as delivery,
        open_consumer(url, prefetch=delivery.room, on_malformed=_note_malformed) as consumer,
    ):
        held: dict[UUID, Delivery] = {}
        delivery.on_booked = partial(_acknowledge, consumer, held)
        task_status.started()
        while True:
            await wait_any(stopping.wait, delivery.wait_room)
            messages = await _receive(consumer, stopping, delivery.room)
            if stopping.is_set():
                break
            await _take(delivery, consumer, held, messages)
        # The acknowledgements of what is in hand need the consumer, so it outlives them.
        await delivery.finish()


async def _receive(consumer: Consumer, stopping: trio.Event, limit: int) -> list[Delivery]:
    messages: list[Delivery] = []

    async def receive() -> None:
        messages.extend(await consumer.receive(limit))

    await wait_any(stopping.wait, receive)
    return messages


async def _take(
    delivery: MailDelivery, consumer: Consumer, held: dict[UUID, Delivery], messages: Sequence[Delivery]
) -> None:
    """Claim the mails of these messages; the prefetch is the room, so that there is always enough."""
    taken = await delivery.take(partial(jobs.claim_mails, mail_ids=[message.mail_id for message in messages]))
    done: list[Delivery] = []
    for message in messages:
        if message.mail_id in taken.in_hand and message.mail_id not in held:
            held[message.mail_id] = message
        else:  # not to be sent, or the second message of one mail
            done.append(message)
    if done:
        UNCLAIMED.inc(len(done))
        await consumer.ack(done)


async def _acknowledge(consumer: Consumer, held: dict[UUID, Delivery], mail_ids: Collection[UUID]) -> None:
    messages = [held.pop(mail_id) for mail_id in mail_ids if mail_id in held]
    # The outcome is committed: a message that comes again will find nothing to claim.
    with suppress(BrokerUnavailableError):
        await consumer.ack(messages)


def _note_malformed(why: str) -> None:
    MALFORMED.labels(why).inc()
    log.warning("message not understood: moved to the dead letters", why=why)
