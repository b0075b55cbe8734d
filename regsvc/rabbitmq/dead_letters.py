"""Dead letters: malformed messages, which an operator lists, drops or requeues.

They are fetched one by one (`basic.get`) and held until the link ends; those not dropped by then return to their place
in the queue. Their content is shown with secrets and addresses masked, since any client may have written it.
"""

from __future__ import annotations

import hashlib
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pamqp.commands import Basic

from regsvc.errors import MalformedMessageError
from regsvc.logs.redaction import redact_text
from regsvc.rabbitmq import message, queues
from regsvc.rabbitmq.link import TIMEOUT, Link, open_link

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection
    from uuid import UUID

    from aiormq.abc import DeliveredMessage

    from regsvc.rabbitmq.publisher import Publisher

_SHOWN = 500  # characters of a body shown
_SHOWN_NAME = 100  # characters of a property shown
_LOOKED_AT = 65_536  # bytes of a body, masked as a whole before it is cut, or half a secret would show


@dataclass(frozen=True)
class DeadLetter:
    """A message in the queue of dead letters, held by this link.

    Args:
        id: twelve characters derived from the content; equal messages have the same.
        mail_id: id of its mail, if it can be decoded.
        trouble: what is wrong with it; None if it is well formed and was only delivered too often.
        cause: the broker's reason for moving it here.
        died_at: time of the move.
        size: bytes of the body.
        content_type, type, message_id: properties as received.
        body: its beginning, safe to display.
    """

    id: str
    mail_id: UUID | None
    trouble: str | None
    cause: str | None
    died_at: datetime | None
    size: int
    content_type: str | None
    type: str | None
    message_id: str | None
    body: str
    tag: int = field(repr=False, compare=False)


@asynccontextmanager
async def open_dead_letters(
    url: str,
    *,
    timeout: float = TIMEOUT,  # noqa: ASYNC109 - for each answer
) -> AsyncIterator[DeadLetters]:
    """Connect, declare the queues and yield a DeadLetters (Trio flavour).

    Raises:
        BrokerUnavailableError: the broker is unreachable or refuses; BrokerTopologyError for a conflicting queue.
    """
    async with open_link(DeadLetters, url, "dead letters", timeout=timeout) as letters:
        await letters.run(letters.declare)
        await letters.run(letters.declare_queue, queues.DEAD)  # required here, optional elsewhere
        yield letters


class DeadLetters(Link):
    """A connection for listing, dropping and requeueing dead letters."""

    async def take(self, limit: int) -> list[DeadLetter]:
        """Fetch up to `limit` letters, the oldest first (Trio flavour).

        Other clients do not see them until this connection ends.

        Raises:
            BrokerUnavailableError: the connection has ended.
        """
        return await self.run(self._take, limit)

    async def drop(self, letters: Collection[DeadLetter]) -> None:
        """Delete letters held by this connection, and wait until the broker has (Trio flavour).

        Raises:
            BrokerUnavailableError: the connection has ended; the letters may still exist.
        """
        if letters:
            await self.write(*(Basic.Ack(letter.tag) for letter in letters))
            await self.run(self.look, queues.DEAD)  # its answer comes after the acks, which have none

    async def requeue(self, letters: Collection[DeadLetter], publisher: Publisher) -> list[DeadLetter]:
        """Publish the ids of the well-formed letters, drop those confirmed, and return them (Trio flavour).

        A malformed letter would come straight back, so it stays where it is.

        Raises:
            BrokerUnavailableError: one of the two connections has ended; a letter may be published but not dropped.
        """
        mail_ids = [letter.mail_id for letter in letters if letter.mail_id is not None]
        confirmed = set((await publisher.publish(mail_ids)).confirmed)
        done = [letter for letter in letters if letter.mail_id in confirmed]
        await self.drop(done)
        return done

    async def _take(self, limit: int) -> list[DeadLetter]:
        """Fetch letters one by one (asyncio flavour)."""
        taken: list[DeadLetter] = []
        while len(taken) < limit:
            found = await self.channel.basic_get(queues.DEAD, timeout=self._timeout)
            if isinstance(found.delivery, Basic.GetEmpty):
                break
            taken.append(_read(found))
        return taken


def _read(found: DeliveredMessage) -> DeadLetter:
    properties, body = found.header.properties, found.body
    mail_id, trouble = None, None
    try:
        mail_id = message.decode(body, properties)
    except MalformedMessageError as error:
        trouble = str(error)
    death = _last_death(properties)
    died_at = death.get("time")
    named = (properties.content_type, properties.message_type, properties.message_id)
    return DeadLetter(
        id=hashlib.sha256(repr(named).encode() + body).hexdigest()[:12],
        mail_id=mail_id,
        trouble=trouble,
        cause=_show(death.get("reason"), _SHOWN_NAME),
        died_at=died_at.astimezone(UTC) if isinstance(died_at, datetime) else None,
        size=len(body),
        content_type=_show(named[0], _SHOWN_NAME),
        type=_show(named[1], _SHOWN_NAME),
        message_id=_show(named[2], _SHOWN_NAME),
        body=_show(body[:_LOOKED_AT].decode("utf-8", "backslashreplace"), _SHOWN) or "",
        tag=found.delivery_tag or 0,
    )


def _last_death(properties: Basic.Properties) -> dict[str, Any]:
    """Return the broker's record of why it moved the message here. Any client may have forged this header."""
    deaths = (properties.headers or {}).get("x-death")
    last = deaths[0] if isinstance(deaths, list) and deaths else None
    return last if isinstance(last, dict) else {}


def _show(value: object, limit: int) -> str | None:
    """Return a text that is safe to print on a terminal: masked, cut, and without control characters."""
    if value is None:
        return None
    text = redact_text(str(value)).replace("\n", " ")[:limit]
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
