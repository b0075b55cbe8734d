"""Declare a queue on a separate channel, since a refusal closes the channel. Everything here is asyncio flavour."""

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
    """Declare a queue and return the number of messages ready in it (asyncio flavour).

    If the user lacks the configure permission, an existing queue is used as it is.

    Args:
        connection: logged in.
        queue: one of our queues.
        timeout: seconds for each answer.

    Raises:
        AMQPError: the broker refuses, or has closed the connection.
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
    """Return the refusal that names the type of a queue, if the type differs (asyncio flavour).

    The broker names only the first argument that differs, and a queue of another type differs in most of them.
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
    """Yield a channel that can be closed without closing its connection (asyncio flavour)."""
    opened = await connection.channel(publisher_confirms=confirms, timeout=timeout)
    try:
        yield cast("Channel", opened)
    finally:
        with suppress(*FAILURES):
            await opened.close()
