"""Prove that RabbitMQ does what the relay and the subscriber need."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regsvc.rabbitmq import check_broker, check_foreign_queue

if TYPE_CHECKING:
    from regsvc.checks.report import Report


async def check_rabbitmq(url: str, _: Report) -> None:
    """Connect, log in, and look at the queue."""
    await check_broker(url)


async def check_foreign(url: str, queue: str, _: Report) -> None:
    """Look for the queue of the system that this one replaces."""
    await check_foreign_queue(url, queue)
