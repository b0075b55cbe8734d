"""Prove that RabbitMQ does what the relay and the subscriber need."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regsvc.errors import BrokerTopologyError, BrokerUnavailableError
from regsvc.rabbitmq import check_broker, check_dead_letter_queue, check_foreign_queue

if TYPE_CHECKING:
    from regsvc.checks.report import Report


async def check_rabbitmq(url: str, report: Report) -> None:
    """Connect, log in, and prove the queues and the rights to use them, leaving nothing behind."""
    try:
        await check_broker(url)
    except BrokerTopologyError as error:
        report.misconfigured.append(str(error))
        return
    try:
        await check_dead_letter_queue(url)
    except BrokerUnavailableError as error:
        # Mails go without it; what nobody can read is lost then.
        report.notes.append(f"dead letters will not be caught: {error}")


async def check_foreign(url: str, queue: str, _: Report) -> None:
    """Look for the queue of the system that this one replaces."""
    await check_foreign_queue(url, queue)
