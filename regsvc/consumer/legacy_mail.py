"""The legacy consumer: books messages that the replaced system requests through RabbitMQ.

A request is acknowledged once its message is committed. A redelivered request finds its message there.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import structlog
import trio

from regsvc.accounts.mails.legacy import LegacyRequest, add_legacy_mails, read_request
from regsvc.errors import MalformedMessageError
from regsvc.metrics import FOREIGN
from regsvc.postgres.pool import Pool
from regsvc.rabbitmq import LegacyConsumer, LegacyDelivery, open_legacy_consumer
from regsvc.security.tokens import Secrets
from regsvc.waiting import wait_any

log = structlog.get_logger()

BATCH = 50  # requests held, and committed together, at most


async def run_legacy_mail(
    *,
    pool: Pool,
    url: str,
    queue: str,
    secrets: Secrets,
    local_domains: Collection[str] = (),
    stopping: trio.Event,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Consume requests until `stopping` is set.

    Args:
        pool: PostgreSQL.
        url: RabbitMQ of the legacy system.
        queue: its queue, which must exist.
        secrets: seal the tokens.
        local_domains: domains to accept although they are not public.
        stopping: ends the consumer.
        task_status: reports the start of consuming.

    Raises:
        BrokerUnavailableError: the broker is unavailable or has no such queue.
        DatabaseUnavailableError: the database is unavailable; the requests are requeued.
    """
    async with open_legacy_consumer(url, queue, prefetch=BATCH) as consumer:
        task_status.started()
        messages: list[LegacyDelivery] = []

        async def receive() -> None:
            messages.extend(await consumer.receive(BATCH))

        while True:
            await wait_any(stopping.wait, receive)
            if stopping.is_set():
                break
            await _take(pool, secrets, consumer, messages, local_domains)
            messages.clear()


async def _take(
    pool: Pool,
    secrets: Secrets,
    consumer: LegacyConsumer,
    messages: Sequence[LegacyDelivery],
    local_domains: Collection[str],
) -> None:
    requests: list[LegacyRequest] = []
    accepted: list[LegacyDelivery] = []
    for message in messages:
        try:
            requests.append(read_request(message.body, message.message_id, local_domains))
        except MalformedMessageError as error:
            FOREIGN.labels("rejected").inc()
            log.warning("legacy message malformed: rejected", why=str(error), bytes=len(message.body))
            await message.reject()
        else:
            accepted.append(message)
    if not requests:
        return
    async with pool.transaction() as conn:
        added = await add_legacy_mails(conn, secrets, requests)
    await consumer.ack(accepted)
    FOREIGN.labels("taken").inc(len(added))
    FOREIGN.labels("known").inc(len(requests) - len(added))
    for mail_id in added:
        log.info("legacy mail queued", mail=str(mail_id))
    if len(requests) > len(added):
        log.info("legacy messages redelivered", messages=len(requests) - len(added))
