"""Declaring a queue, on channels of its own, since a refusal ends its channel. Everything here is asyncio flavour."""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, cast

from aiormq.exceptions import ChannelAccessRefused, ChannelNotFoundEntity, ChannelPreconditionFailed

from regsvc.rabbitmq import queues
from regsvc.rabbitmq.dial import FAILURES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiormq.channel import Channel

    from regsvc.rabbitmq.dial import Connection


async def declare_queue(connection: Connection, queue: str, timeout: float) -> int:  # noqa: ASYNC109 - for each answer
    """Declare a queue and return how many messages wait in it (asyncio flavour).

    A user without the right to configure takes the queue as it is found.

    Args:
        connection: Logged in.
        queue: One of ours.
        timeout: Seconds for each answer.

    Raises:
        AMQPError: The broker refuses, or has ended the connection.
    """
    arguments = dict(queues.ARGUMENTS[queue])
    try:
        async with side_channel(connection, timeout) as channel:
            declared = await channel.queue_declare(queue, durable=True, arguments=arguments, timeout=timeout)
    except ChannelAccessRefused as refused:
        try:
            async with side_channel(connection, timeout) as channel:
                declared = await channel.queue_declare(queue, passive=True, timeout=timeout)
        except ChannelNotFoundEntity:
            raise refused from None
    except ChannelPreconditionFailed as refused:
        raise await _find_cause(connection, queue, refused, timeout) from None
    return declared.message_count or 0 if declared is not None else 0


async def _find_cause(
    connection: Connection,
    queue: str,
    refused: ChannelPreconditionFailed,
    timeout: float,  # noqa: ASYNC109 - for each answer
) -> ChannelPreconditionFailed:
    """Return the refusal that blames the type of a queue, if that is what differs (asyncio flavour).

    The broker names the first argument that differs, and a queue of another type has most of them otherwise.
    """
    arguments = {"x-queue-type": queues.ARGUMENTS[queue]["x-queue-type"]}
    try:
        async with side_channel(connection, timeout) as channel:
            await channel.queue_declare(queue, durable=True, arguments=arguments, timeout=timeout)
    except ChannelPreconditionFailed as other:
        if "'x-queue-type'" in str(other):
            return other
    except FAILURES:
        pass
    return refused


@asynccontextmanager
async def side_channel(
    connection: Connection,
    timeout: float,  # noqa: ASYNC109 - for each answer
    *,
    confirms: bool = False,
) -> AsyncIterator[Channel]:
    """Give a channel whose end is not its connection's (asyncio flavour)."""
    opened = await connection.channel(publisher_confirms=confirms, timeout=timeout)
    try:
        yield cast("Channel", opened)
    finally:
        with suppress(*FAILURES):
            await opened.close()
