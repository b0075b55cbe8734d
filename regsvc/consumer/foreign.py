"""The foreign consumer: takes what the system that this one replaces would have mailed, and makes mail jobs of it.

Its messages are acknowledged once their mails are committed; what happens to those then is what happens to every mail.
A message that comes again, because the acknowledgement was lost or its sender was not sure, finds its mail there.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import structlog
import trio

from regsvc.accounts.mails.legacy import ForeignRequest, add_foreign_mails, read_request
from regsvc.errors import MalformedMessageError
from regsvc.metrics import FOREIGN
from regsvc.postgres.pool import Pool
from regsvc.rabbitmq import ForeignConsumer, ForeignDelivery, open_foreign_consumer
from regsvc.security.tokens import Secrets
from regsvc.waiting import wait_any

log = structlog.get_logger()

BATCH = 50  # messages that are held, and committed together, at most


async def run_foreign(
    *,
    pool: Pool,
    url: str,
    queue: str,
    secrets: Secrets,
    local_domains: Collection[str] = (),
    stopping: trio.Event,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Take messages until `stopping` is set.

    Args:
        pool: PostgreSQL.
        url: RabbitMQ of that system.
        queue: of that system, consumed as found.
        secrets: what seals the tokens.
        local_domains: domains that are taken although they are no public names.
        stopping: ends it.
        task_status: told once it consumes.

    Raises:
        BrokerUnavailableError: that broker is away, or has no such queue.
        DatabaseUnavailableError: the database is away; the messages go back to their queue.
    """
    async with open_foreign_consumer(url, queue, prefetch=BATCH) as consumer:
        task_status.started()
        messages: list[ForeignDelivery] = []

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
    consumer: ForeignConsumer,
    messages: Sequence[ForeignDelivery],
    local_domains: Collection[str],
) -> None:
    requests: list[ForeignRequest] = []
    accepted: list[ForeignDelivery] = []
    for message in messages:
        try:
            requests.append(read_request(message.body, message.message_id, local_domains))
        except MalformedMessageError as error:
            FOREIGN.labels("rejected").inc()
            log.warning("foreign message not understood: rejected", why=str(error), bytes=len(message.body))
            await message.reject()
        else:
            accepted.append(message)
    if not requests:
        return
    async with pool.transaction() as conn:
        added = await add_foreign_mails(conn, secrets, requests)
    await consumer.ack(accepted)
    FOREIGN.labels("taken").inc(len(added))
    FOREIGN.labels("known").inc(len(requests) - len(added))
    for mail_id in added:
        log.info("foreign mail queued", mail=str(mail_id))
    if len(requests) > len(added):
        log.info("foreign messages came again", messages=len(requests) - len(added))
