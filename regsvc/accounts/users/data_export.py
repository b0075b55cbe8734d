"""Export all data about a user (Regulation (EU) 2016/679, articles 15 and 20).

The export is read in pages: first the ids of a list, each by an index, then its rows. Statements stay small, no
connection is held between them, and memory holds one page at most.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from psycopg.rows import class_row, scalar_row

from regsvc.accounts.audit.record import ActorKind
from regsvc.accounts.identities.own import OwnIdentity
from regsvc.postgres.pool import Pool

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

MOST = 10_000  # of each list, newest first
PAGE = 200  # rows per read


@dataclass(frozen=True)
class AcceptedTerms:
    """The terms of use that the user accepted last."""

    version: str
    accepted_at: datetime | None


@dataclass(frozen=True)
class OwnAppData:
    """What the service's own program added to the sign-up."""

    app_data: dict[str, Any]


@dataclass(frozen=True)
class PastSession:
    """A session, active or ended."""

    id: UUID
    origin: str
    client: str
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime
    ended_at: datetime | None
    ended_reason: str | None


@dataclass(frozen=True)
class OwnPasskey:
    """A passkey of the account; its key is of use to this service alone."""

    id: UUID
    name: str
    synced: bool
    created_at: datetime
    last_used_at: datetime | None


@dataclass(frozen=True)
class PastRegistration:
    """A sign-up with the user's address, by any client."""

    id: UUID
    state: str
    origin: str
    client: str
    terms: str | None
    created_at: datetime
    changed_at: datetime


@dataclass(frozen=True)
class OwnApp:
    """The authenticator app of the account, without its secret, and the number of recovery codes that are left."""

    created_at: datetime
    recovery_codes: int


@dataclass(frozen=True)
class PastInvitation:
    """An invitation of the user's address."""

    created_at: datetime
    expires_at: datetime
    accepted_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True)
class PastEmailChange:
    """An email change of the account."""

    old_email: str
    new_email: str
    state: str
    asked_at: datetime
    done_at: datetime | None


@dataclass(frozen=True)
class PastMail:
    """A message sent to the user's address or requested for it."""

    id: UUID
    kind: str
    sent_as: str | None
    state: str
    created_at: datetime
    sent_at: datetime | None


@dataclass(frozen=True)
class PastEvent:
    """An event of the account; its origin is omitted if an administrator caused it."""

    at: datetime
    event: str
    actor: ActorKind
    origin: str | None
    client: str | None
    details: dict[str, Any]


@dataclass(frozen=True)
class _List:
    """One list of the export.

    Args:
        name: its name in the export.
        row: dataclass of a row.
        find: statement that returns the ids of the newest rows; parameters `user_id`, `email_key` and `most`.
        read: statement that returns the rows of `ids` in the same order.
    """

    name: str
    row: type[DataclassInstance]
    find: str
    read: str


# Omit what other clients entered about themselves when they signed up with this address.
LISTS = (
    _List(
        "terms",
        AcceptedTerms,
        "SELECT id FROM users WHERE id = %(user_id)s AND terms IS NOT NULL LIMIT %(most)s",
        "SELECT terms AS version, terms_at AS accepted_at FROM users WHERE id = ANY(%(ids)s)",
    ),
    _List(
        "app_data",
        OwnAppData,
        "SELECT id FROM users WHERE id = %(user_id)s AND app_data IS NOT NULL LIMIT %(most)s",
        "SELECT app_data FROM users WHERE id = ANY(%(ids)s)",
    ),
    _List(
        "sessions",
        PastSession,
        "SELECT id FROM sessions WHERE user_id = %(user_id)s ORDER BY created_at DESC, id DESC LIMIT %(most)s",
        """
        SELECT id, origin, client, created_at, last_used_at, expires_at, ended_at, ended_reason
          FROM sessions WHERE id = ANY(%(ids)s) ORDER BY created_at DESC, id DESC
        """,
    ),
    _List(
        "identities",
        OwnIdentity,
        "SELECT id FROM identities WHERE user_id = %(user_id)s ORDER BY created_at DESC, id DESC LIMIT %(most)s",
        """
        SELECT provider, issuer, subject, email, created_at, last_used_at
          FROM identities WHERE id = ANY(%(ids)s) ORDER BY created_at DESC, id DESC
        """,
    ),
    _List(
        "passkeys",
        OwnPasskey,
        "SELECT id FROM passkeys WHERE user_id = %(user_id)s ORDER BY created_at DESC, id DESC LIMIT %(most)s",
        """
        SELECT id, name, synced, created_at, last_used_at
          FROM passkeys WHERE id = ANY(%(ids)s) ORDER BY created_at DESC, id DESC
        """,
    ),
    _List(
        "registrations",
        PastRegistration,
        """
        SELECT id
          FROM (SELECT id, created_at FROM registrations
                 WHERE email_key = %(email_key)s AND state IN ('confirmed', 'expired', 'repudiated')
                 UNION ALL
                SELECT id, created_at FROM registrations
                 WHERE email_key = %(email_key)s AND state NOT IN ('confirmed', 'expired', 'repudiated')) AS r
         ORDER BY created_at DESC, id DESC LIMIT %(most)s
        """,
        """
        SELECT id, state, origin, client, terms, created_at, changed_at
          FROM registrations WHERE id = ANY(%(ids)s) ORDER BY created_at DESC, id DESC
        """,
    ),
    _List(
        "authenticator_apps",
        OwnApp,
        "SELECT user_id FROM totp_authenticators WHERE user_id = %(user_id)s LIMIT %(most)s",
        """
        SELECT created_at, (SELECT count(*) FROM recovery_codes c WHERE c.user_id = t.user_id) AS recovery_codes
          FROM totp_authenticators t WHERE user_id = ANY(%(ids)s)
        """,
    ),
    _List(
        "invitations",
        PastInvitation,
        "SELECT id FROM invitations WHERE email_key = %(email_key)s ORDER BY created_at DESC, id DESC LIMIT %(most)s",
        """
        SELECT created_at, expires_at, accepted_at, revoked_at
          FROM invitations WHERE id = ANY(%(ids)s) ORDER BY created_at DESC, id DESC
        """,
    ),
    _List(
        "moves",
        PastEmailChange,
        "SELECT id FROM address_moves WHERE user_id = %(user_id)s ORDER BY asked_at DESC, id DESC LIMIT %(most)s",
        """
        SELECT old_email, new_email, state, asked_at, done_at
          FROM address_moves WHERE id = ANY(%(ids)s) ORDER BY asked_at DESC, id DESC
        """,
    ),
    _List(
        "mails",
        PastMail,
        """
        SELECT id
          FROM (SELECT id, created_at FROM mails WHERE email_key = %(email_key)s
                 UNION
                SELECT id, created_at FROM mails WHERE user_id = %(user_id)s
                 UNION
                SELECT m.id, m.created_at
                  FROM registrations r JOIN mails m ON m.registration_id = r.id
                 WHERE r.email_key = %(email_key)s AND r.state IN ('confirmed', 'expired', 'repudiated')
                 UNION
                SELECT m.id, m.created_at
                  FROM registrations r JOIN mails m ON m.registration_id = r.id
                 WHERE r.email_key = %(email_key)s
                   AND r.state NOT IN ('confirmed', 'expired', 'repudiated')) AS m
         ORDER BY created_at DESC, id DESC LIMIT %(most)s
        """,
        """
        SELECT id, kind, sent_as, state, created_at, sent_at
          FROM mails WHERE id = ANY(%(ids)s) ORDER BY created_at DESC, id DESC
        """,
    ),
    _List(
        "events",
        PastEvent,
        "SELECT id FROM audit_events WHERE user_id = %(user_id)s ORDER BY at DESC, id DESC LIMIT %(most)s",
        """
        SELECT at, event, actor, details,
               CASE WHEN actor <> 'admin' THEN origin END AS origin,
               CASE WHEN actor <> 'admin' THEN client END AS client
          FROM audit_events WHERE id = ANY(%(ids)s) ORDER BY at DESC, id DESC
        """,
    ),
)


async def export_pages(
    pool: Pool, user_id: UUID, email_key: str
) -> AsyncGenerator[tuple[str, Sequence[DataclassInstance]], None]:
    """Yield list names with batches of rows, newest first; each list at least once.

    Args:
        pool: source of connections.
        user_id: the user.
        email_key: key of their address.

    Raises:
        DatabaseUnavailableError: the database became unavailable; the export is incomplete.
    """
    for each in LISTS:
        async with pool.connection() as conn, conn.cursor(row_factory=scalar_row) as cursor:
            await cursor.execute(
                each.find.encode(), {"user_id": user_id, "email_key": email_key, "most": MOST}
            )
            ids: list[Any] = await cursor.fetchall()
        for begin in range(0, max(len(ids), 1), PAGE):
            async with pool.connection() as conn, conn.cursor(row_factory=class_row(each.row)) as cursor:
                await cursor.execute(each.read.encode(), {"ids": ids[begin : begin + PAGE]})
                rows = await cursor.fetchall()
            yield each.name, rows
