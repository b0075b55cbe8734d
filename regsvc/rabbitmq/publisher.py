"""Publishing the ids of mails, each confirmed by the broker before it counts."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import trio
from aiormq.exceptions import DeliveryError, PublishError
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from regsvc.rabbitmq import message, queues
from regsvc.rabbitmq.link import HEARTBEAT, TIMEOUT, Link, open_link

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
    from uuid import UUID

    from aiormq.abc import FrameType

IN_FLIGHT = 256  # ids waiting for their confirm at a time
_LOOK_SECONDS = 0.25  # aiormq has no event for Connection.Blocked


class PublishFailure(StrEnum):
    """Why the id of a mail is not known to be in the queue."""

    NACKED = "nacked"  # the queue could not take it
    RETURNED = "returned"  # the queue is gone, and with it this publisher
    BLOCKED = "blocked"  # memory or disk alarm: publish again after `wait_unblocked`
    UNANSWERED = "unanswered"  # no confirm came, and this publisher has ended


@dataclass(frozen=True)
class PublishResult:
    """What became of the ids given to `publish`. One that failed may be in the queue all the same."""

    confirmed: tuple[UUID, ...]
    failed: Mapping[UUID, PublishFailure]


@asynccontextmanager
async def open_publisher(
    url: str,
    *,
    name: str = "relay",
    timeout: float = TIMEOUT,  # noqa: ASYNC109 - for each answer
    heartbeat: int = HEARTBEAT,
) -> AsyncIterator[Publisher]:
    """Connect, declare the queues and give a Publisher (Trio flavour).

    Args:
        url: `amqp://` or `amqps://`.
        name: what the broker's management page calls the connection.
        timeout: seconds that connecting may take, and any answer after that.
        heartbeat: seconds; a broker silent for twice that and a little is given up.

    Raises:
        BrokerUnavailableError: out of reach or refusing; BrokerTopologyError if a queue stands in the way.
    """
    async with open_link(
        Publisher, url, name, timeout=timeout, heartbeat=heartbeat, confirms=True
    ) as publisher:
        await publisher.run(publisher.declare)
        yield publisher


class Publisher(Link):
    """A connection that publishes.

    `messages_ready` is how many ids waited in the queue when it was declared: 0 says that it came back empty.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._turn = trio.Lock()
        self._unblocked = trio.Event()
        self._unblocked.set()

    @property
    def blocked(self) -> bool:
        """Whether a memory or disk alarm of the broker stops this; it learns of one by publishing only."""
        return not self._unblocked.is_set()

    async def wait_unblocked(self) -> None:
        """Wait until no alarm is known to stop this (Trio flavour).

        Raises:
            BrokerUnavailableError: it has ended.
        """
        await self._unblocked.wait()
        self.check_open()

    async def count_ready(self, queue: str = queues.MAILS) -> int:
        """Ask how many messages wait in a queue (Trio flavour); where there is no queue, none, and this ends.

        Raises:
            BrokerUnavailableError: this had ended before, or no answer came.
        """
        async with self._turn:
            self.check_open()
            return await self.run(self.look, queue)

    async def count_dead_letters(self) -> int:
        """Declare the queue of dead letters where it is missing, and count what waits there (Trio flavour).

        That is beside publishing: whatever becomes of it, this goes on.

        Raises:
            BrokerUnavailableError: the queue cannot be declared, or this has ended.
        """
        self.check_open()
        return await self.run(self.declare_queue, queues.DEAD)

    def end(self, why: BaseException | str) -> None:
        """Note that this is of no use any more, and wake who waits for the end of an alarm."""
        super().end(why)
        self._unblocked.set()

    async def publish(self, mail_ids: Iterable[UUID]) -> PublishResult:
        """Publish ids, persistent and mandatory, many at a time, and wait for what the broker says (Trio flavour).

        Two calls at once take turns, and an id given twice goes once: aiormq tells returns apart by it.

        Raises:
            BrokerUnavailableError: this had ended before; when it ends on the way, the result says how far it came.
        """
        async with self._turn:
            self.check_open()
            mails = list(dict.fromkeys(mail_ids))
            confirmed: list[UUID] = []
            failed: dict[UUID, PublishFailure] = {}
            for start in range(0, len(mails), IN_FLIGHT):
                batch = mails[start : start + IN_FLIGHT]
                if self._ended.is_set():
                    failed |= dict.fromkeys(batch, PublishFailure.UNANSWERED)
                elif self.blocked:
                    failed |= dict.fromkeys(batch, PublishFailure.BLOCKED)
                else:
                    answers = await self._publish_batch(batch)
                    confirmed += [mail_id for mail_id in batch if answers[mail_id] is None]
                    failed |= {mail_id: failure for mail_id, failure in answers.items() if failure}
            return PublishResult(tuple(confirmed), failed)

    async def _publish_batch(self, batch: Sequence[UUID]) -> dict[UUID, PublishFailure | None]:
        """Write all of them at once and gather the answers (Trio flavour).

        `Channel.basic_publish` would do, but for a task and a piece of its own for each message, which cost six
        times the processor time (600 against 95 µs each); this books the confirms as it does.
        """
        answers = {}
        frames: list[FrameType] = []
        for mail_id in batch:
            self.channel.delivery_tag += 1
            answers[mail_id] = self.channel.create_future()
            self.channel.confirmations[self.channel.delivery_tag] = answers[mail_id]
            self.channel.message_id_delivery_tag[str(mail_id)] = self.channel.delivery_tag
            frames += _frames(mail_id)
        left, settled = len(batch), trio.Event()

        def settle(_: object) -> None:
            nonlocal left
            left -= 1
            if not left:
                settled.set()

        try:
            await self.write(*frames)
        except BaseException:
            self.end("publishing was cut off")  # the broker's count of messages and ours differ now
            raise
        try:
            for answer in answers.values():
                answer.add_done_callback(settle)
            await self._wait_settled(settled)
            return {mail_id: self._read(answer) for mail_id, answer in answers.items()}
        finally:
            for mail_id, answer in answers.items():
                answer.cancel()
                self.channel.message_id_delivery_tag.pop(str(mail_id), None)

    async def _wait_settled(self, settled: trio.Event) -> None:
        """Wait until all is answered, an alarm keeps answers away, or too long (Trio flavour)."""
        deadline = trio.current_time() + self._timeout
        while True:
            with trio.move_on_after(_LOOK_SECONDS):
                await settled.wait()
                return
            with trio.move_on_after(_LOOK_SECONDS) as look:
                await self.run(self.connection.ready)
            if look.cancelled_caught:
                self._unblocked = trio.Event()
                self._watch = self._loop.create_task(self._await_unblocked())
                return
            if trio.current_time() > deadline:
                self.end(f"no confirm within {self._timeout:g} s")
                return

    async def _await_unblocked(self) -> None:
        """Note the end of an alarm (asyncio flavour)."""
        await self.connection.ready()
        self._unblocked.set()

    def _read(self, answer: Any) -> PublishFailure | None:
        """Tell what one confirm says; None is the good news."""
        if not answer.done():
            return PublishFailure.BLOCKED if self.blocked else PublishFailure.UNANSWERED
        error = answer.exception()
        if error is None:
            return None
        if isinstance(error, PublishError):
            self.end(f"the queue {queues.MAILS} is gone")
            return PublishFailure.RETURNED
        return PublishFailure.NACKED if isinstance(error, DeliveryError) else PublishFailure.UNANSWERED


def _frames(mail_id: UUID) -> tuple[FrameType, ...]:
    """Make the frames of one message."""
    body = message.encode(mail_id)
    properties = Basic.Properties(
        content_type=message.CONTENT_TYPE,
        message_type=message.TYPE,
        message_id=str(mail_id),
        delivery_mode=2,
        headers={"traceparent": message.traceparent(mail_id)},
    )
    return (
        Basic.Publish(routing_key=queues.MAILS, mandatory=True),
        ContentHeader(properties=properties, body_size=len(body)),
        ContentBody(body),
    )
