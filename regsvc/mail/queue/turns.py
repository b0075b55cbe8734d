"""Followers: messages that show the outcome of the message that has their address's turn."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal
from uuid import UUID

from psycopg.rows import class_row

from regsvc.mail.queue import retry_policy
from regsvc.mail.queue.bookings import Ended, Held, Retry
from regsvc.postgres.connection import Connection

AGAIN = timedelta(seconds=1)  # until a follower is looked at again while its leader is in hand


@dataclass(frozen=True)
class Leader:
    """A message that has the turn of its address.

    Args:
        id: id of the message.
        state: state of the message.
        reason: of its delay or its end.
        reply: reply of the server.
    """

    id: UUID
    state: Literal["queued", "sending", "delayed", "sent", "bounced", "dead", "cancelled"]
    reason: str | None
    reply: str | None


async def note_turns(conn: Connection, *, had: Collection[UUID], follow: Collection[UUID]) -> None:
    """Record which messages have their turn now, and which follow the one that has it."""
    await conn.execute(
        """
        UPDATE mails SET follows = id = ANY(%(follow)s)
         WHERE id = ANY(ARRAY(SELECT id FROM mails WHERE id = ANY(%(had)s || %(follow)s) ORDER BY id FOR UPDATE))
        """,
        {"had": list(had), "follow": list(follow)},
    )


async def find_leaders(conn: Connection, mail_ids: Collection[UUID]) -> dict[UUID, Leader]:
    """Return these messages' leaders by id, without deleted ones."""
    async with conn.cursor(row_factory=class_row(Leader)) as cursor:
        await cursor.execute(
            "SELECT id, state, reason, reply FROM mails WHERE id = ANY(%(ids)s)", {"ids": list(mail_ids)}
        )
        return {leader.id: leader for leader in await cursor.fetchall()}


def follow(held: Held, leader: Leader | None) -> Held | Retry | Ended | None:
    """Return what a message shows whose address's turn another one has.

    It shows the other's outcome, with times of its own, as if it had been attempted itself.

    Args:
        held: the follower.
        leader: message that has the turn; None if it was deleted.

    Returns:
        `Held` if the other was accepted; None if it is undecided, cancelled or given up: then the follower is
        looked at again, and may find the turn free.
    """
    if leader is None or leader.state == "sent":
        return held
    if leader.state == "delayed":
        return retry_policy.put_off(held.job, leader.reason or "", leader.reply or "")
    if leader.state == "bounced":
        return Ended(held.job, "bounced", leader.reason or "", leader.reply or "", tried=False)
    return None
