"""Registrations as an operator sees them: found, and looked at."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg.rows import class_row

from regsvc.accounts.cursor import Page, Position, after_row, cut_page, rows_to_read
from regsvc.accounts.registrations.registration import RegistrationNotFoundError, State
from regsvc.postgres.connection import Connection


@dataclass(frozen=True)
class Entry:
    """A registration, whose it is, and how it stands.

    Args:
        id: of the registration.
        address: where its mail goes; None if whose it was is erased.
        name: as it was given; any text.
        state: as it is shown to the clients that wait.
        attempts: how often its mail was taken to the mail server.
        next_try_at: when it is tried again, while delayed.
        reason: why it is delayed or bounced.
        origin: the network prefix that it came from.
        client: a short word for the software that it came from.
        created_at: when it came.
        changed_at: when its state last changed.
        expires_at: when its link and code end, once that is known.
    """

    id: UUID
    address: str | None
    name: str | None
    state: State
    attempts: int
    next_try_at: datetime | None
    reason: str | None
    origin: str
    client: str
    created_at: datetime
    changed_at: datetime
    expires_at: datetime | None


_ENTRIES = """
    SELECT id, nullif(email, '') AS address, nullif(name, '') AS name, state, attempts, next_try_at, reason,
           origin, client, created_at, changed_at, expires_at
      FROM registrations
"""
# Those that live and those that are over: an index for each.
_OF_ADDRESS = """
    id IN (SELECT id FROM registrations
            WHERE email_key = %(email_key)s AND state NOT IN ('confirmed', 'expired', 'repudiated')
            UNION ALL
           SELECT id FROM registrations
            WHERE email_key = %(email_key)s AND state IN ('confirmed', 'expired', 'repudiated'))
"""


async def list_registrations(
    conn: Connection, *, state: State | None, email_key: str | None, after: Position | None, limit: int
) -> Page[Entry]:
    """Return a page of registrations, the newest first.

    Args:
        conn: reads.
        state: only those in this one.
        email_key: only those of this address, as it is compared.
        after: where the page begins; None for the newest.
        limit: how many, `MAX_PAGE` at most.
    """
    conditions = [
        *(["(created_at, id) < (%(created_at)s, %(id)s)"] if after else []),
        *(["state = %(state)s"] if state else []),
        *([_OF_ADDRESS] if email_key else []),
    ]
    async with conn.cursor(row_factory=class_row(Entry)) as cursor:
        await cursor.execute(
            f"""
            {_ENTRIES}
             WHERE {" AND ".join(conditions) or "true"}
             ORDER BY created_at DESC, id DESC
             LIMIT %(limit)s
            """,  # constants of this module
            {
                **(vars(after) if after else {}),
                "state": state,
                "email_key": email_key,
                "limit": rows_to_read(limit),
            },
        )
        found = await cursor.fetchall()
    return cut_page(found, limit, after_row)


async def get_entry(conn: Connection, registration_id: UUID) -> Entry:
    """Return a registration.

    Raises:
        RegistrationNotFoundError: there is none of that id.
    """
    async with conn.cursor(row_factory=class_row(Entry)) as cursor:
        await cursor.execute(f"{_ENTRIES} WHERE id = %(id)s", {"id": registration_id})
        entry = await cursor.fetchone()
    if entry is None:
        raise RegistrationNotFoundError
    return entry
