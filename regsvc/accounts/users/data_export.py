"""All that is known of a person, for themselves (Regulation (EU) 2016/679, articles 15 and 20)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.rows import class_row

from regsvc.accounts.audit.record import ActorKind
from regsvc.postgres.connection import Connection

MOST = 10_000  # of each list, the newest


@dataclass(frozen=True)
class PastSession:
    """A session, alive or not."""

    id: UUID
    origin: str
    client: str
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime
    ended_at: datetime | None
    ended_reason: str | None


@dataclass(frozen=True)
class PastRegistration:
    """A sign-up of the person's address, by whomever."""

    id: UUID
    state: str
    origin: str
    client: str
    created_at: datetime
    changed_at: datetime


@dataclass(frozen=True)
class PastMove:
    """A move of the account to another address."""

    old_email: str
    new_email: str
    state: str
    asked_at: datetime
    done_at: datetime | None


@dataclass(frozen=True)
class PastMail:
    """A mail to the person's address, or asked for by it."""

    id: UUID
    kind: str
    sent_as: str | None
    state: str
    created_at: datetime
    sent_at: datetime | None


@dataclass(frozen=True)
class PastEvent:
    """What happened to the account; where from is told unless an administrator did it."""

    at: datetime
    event: str
    actor: ActorKind
    origin: str | None
    client: str | None
    details: dict[str, Any]


async def export_sessions(conn: Connection, user_id: UUID) -> Sequence[PastSession]:
    """Return a user's sessions of the last 30 days."""
    async with conn.cursor(row_factory=class_row(PastSession)) as cursor:
        await cursor.execute(
            """
            SELECT id, origin, client, created_at, last_used_at, expires_at, ended_at, ended_reason
              FROM sessions
             WHERE user_id = %(user_id)s
             ORDER BY created_at DESC
             LIMIT %(most)s
            """,
            {"user_id": user_id, "most": MOST},
        )
        return await cursor.fetchall()


async def export_registrations(conn: Connection, email_key: str) -> Sequence[PastRegistration]:
    """Return the sign-ups of an address; what others wrote there about themselves is not told."""
    async with conn.cursor(row_factory=class_row(PastRegistration)) as cursor:
        await cursor.execute(
            """
            SELECT id, state, origin, client, created_at, changed_at
              FROM registrations
             WHERE email_key = %(email_key)s
             ORDER BY created_at DESC
             LIMIT %(most)s
            """,
            {"email_key": email_key, "most": MOST},
        )
        return await cursor.fetchall()


async def export_moves(conn: Connection, user_id: UUID) -> Sequence[PastMove]:
    """Return a user's moves to other addresses, also those that were not confirmed."""
    async with conn.cursor(row_factory=class_row(PastMove)) as cursor:
        await cursor.execute(
            """
            SELECT old_email, new_email, state, asked_at, done_at
              FROM address_moves
             WHERE user_id = %(user_id)s
             ORDER BY asked_at DESC
             LIMIT %(most)s
            """,
            {"user_id": user_id, "most": MOST},
        )
        return await cursor.fetchall()


async def export_mails(conn: Connection, user_id: UUID, email_key: str) -> Sequence[PastMail]:
    """Return the mails of an address and about an account: what they were and what became of them."""
    async with conn.cursor(row_factory=class_row(PastMail)) as cursor:
        await cursor.execute(
            """
            SELECT id, kind, sent_as, state, created_at, sent_at
              FROM mails
             WHERE email_key = %(email_key)s OR user_id = %(user_id)s
                OR registration_id IN (SELECT id FROM registrations WHERE email_key = %(email_key)s)
             ORDER BY created_at DESC
             LIMIT %(most)s
            """,
            {"user_id": user_id, "email_key": email_key, "most": MOST},
        )
        return await cursor.fetchall()


async def export_events(conn: Connection, user_id: UUID) -> Sequence[PastEvent]:
    """Return the events about a user."""
    async with conn.cursor(row_factory=class_row(PastEvent)) as cursor:
        await cursor.execute(
            """
            SELECT at, event, actor, details,
                   CASE WHEN actor <> 'admin' THEN origin END AS origin,
                   CASE WHEN actor <> 'admin' THEN client END AS client
              FROM audit_events
             WHERE user_id = %(user_id)s
             ORDER BY id DESC
             LIMIT %(most)s
            """,
            {"user_id": user_id, "most": MOST},
        )
        return await cursor.fetchall()
