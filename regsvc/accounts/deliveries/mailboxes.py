"""Positions in bounce mailboxes, each read by one process at a time under a lease."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from psycopg.rows import class_row

from regsvc.postgres.connection import Connection

LEASE: Final = timedelta(seconds=120)


@dataclass(frozen=True)
class Position:
    """The last message that was read.

    Args:
        uid_validity: of the UIDs; 0 before anything was read.
        last_uid: of that message.
    """

    uid_validity: int
    last_uid: int


async def take_mailbox(conn: Connection, mailbox: str, lease: UUID) -> Position | None:
    """Take or renew the lease of a mailbox; return None while another process has it."""
    await conn.execute(
        "INSERT INTO feedback_mailboxes (mailbox) VALUES (%(mailbox)s) ON CONFLICT DO NOTHING",
        {"mailbox": mailbox},
    )
    async with conn.cursor(row_factory=class_row(Position)) as cursor:
        await cursor.execute(
            """
            UPDATE feedback_mailboxes SET lease = %(lease)s, leased_until = now() + %(life)s
             WHERE mailbox = %(mailbox)s AND (lease = %(lease)s OR coalesce(leased_until <= now(), true))
            RETURNING uid_validity, last_uid
            """,
            {"mailbox": mailbox, "lease": lease, "life": LEASE},
        )
        return await cursor.fetchone()


async def note_position(conn: Connection, mailbox: str, lease: UUID, position: Position) -> bool:
    """Store how far a mailbox was read and renew its lease; return whether the lease was still held."""
    cursor = await conn.execute(
        """
        UPDATE feedback_mailboxes
           SET uid_validity = %(uid_validity)s, last_uid = %(last_uid)s, leased_until = now() + %(life)s
         WHERE mailbox = %(mailbox)s AND lease = %(lease)s
        """,
        {"mailbox": mailbox, "lease": lease, "life": LEASE, **vars(position)},
    )
    return cursor.rowcount > 0


async def leave_mailbox(conn: Connection, mailbox: str, lease: UUID) -> None:
    """Let another process read the mailbox."""
    await conn.execute(
        "UPDATE feedback_mailboxes SET lease = NULL, leased_until = NULL "
        "WHERE mailbox = %(mailbox)s AND lease = %(lease)s",
        {"mailbox": mailbox, "lease": lease},
    )
