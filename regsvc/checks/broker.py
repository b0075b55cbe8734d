"""Check that RabbitMQ works as the relay and the subscriber need it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regsvc.errors import BrokerTopologyError, BrokerUnavailableError
from regsvc.rabbitmq import check_broker, check_dead_letter_queue, check_legacy_queue

if TYPE_CHECKING:
    from regsvc.checks.report import Report


async def check_rabbitmq(url: str, report: Report) -> None:
    """Connect, log in, and check the queues and permissions, leaving nothing behind."""
    try:
        await check_broker(url)
    except BrokerTopologyError as error:
        report.misconfigured.append(str(error))
        return
    try:
        await check_dead_letter_queue(url)
    except BrokerUnavailableError as error:
        # Mails are sent without it, but malformed messages are lost.
        report.notes.append(f"dead letters will be lost: {error}")


async def check_legacy(url: str, queue: str, _: Report) -> None:
    """Check that the queue of the legacy system exists."""
    await check_legacy_queue(url, queue)
