"""Search and lookup of registrations for administrators."""

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
    """A registration as administrators see it.

    Args:
        id: of the registration.
        address: recipient of its message; None if the user was erased.
        name: the name entered; any text.
        state: state that waiting clients see.
        attempts: number of delivery attempts.
        next_try_at: time of the next delivery attempt, while delayed.
        reason: why it is delayed or bounced.
        origin: network prefix of the client.
        client: short name of the client's software.
        created_at: when the client signed up.
        changed_at: when its state last changed.
        expires_at: when its link and code expire, once known.
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
# Live registrations and finished ones: one index each.
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
    """Return a page of registrations, newest first.

    Args:
        conn: connection to read with.
        state: only registrations in this state.
        email_key: only registrations with this address key.
        after: position before the page; None for the newest.
        limit: rows, at most `MAX_PAGE`.
    """
    conditions = [
        "login_key IS NULL",  # logins by a mailed code are no sign-ups
        *(["(created_at, id) < (%(created_at)s, %(id)s)"] if after else []),
        *(["state = %(state)s"] if state else []),
        *([_OF_ADDRESS] if email_key else []),
    ]
    async with conn.cursor(row_factory=class_row(Entry)) as cursor:
        await cursor.execute(
            f"""
            {_ENTRIES}
             WHERE {" AND ".join(conditions)}
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
        RegistrationNotFoundError: no registration has this id.
    """
    async with conn.cursor(row_factory=class_row(Entry)) as cursor:
        await cursor.execute(f"{_ENTRIES} WHERE id = %(id)s AND login_key IS NULL", {"id": registration_id})
        entry = await cursor.fetchone()
    if entry is None:
        raise RegistrationNotFoundError
    return entry
