"""Search and lookup of users for administrators; `user_actions` changes them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeAlias, get_args
from uuid import UUID

from psycopg.rows import class_row

from regsvc.accounts.address import find_key, find_key_prefixes
from regsvc.accounts.cursor import Page, Position, after_row, cut_page, rows_to_read
from regsvc.accounts.sessions.session import ALIVE
from regsvc.accounts.users.user import UserNotFoundError
from regsvc.postgres.connection import Connection

Role: TypeAlias = Literal["user", "admin"]
Standing: TypeAlias = Literal["active", "disabled"]

MOST_SEARCHED = 1000  # addresses and names that begin with the search text


@dataclass(frozen=True)
class Person:
    """A user as administrators see them.

    Args:
        id: of the user.
        email: address of the user.
        name: name of the user; any text.
        locale: language of messages to the user.
        role: role of the user.
        state: whether the user may log in.
        created_at: when the address was confirmed or the account created.
        disabled_at: when the user was disabled; None if active.
        sessions: number of live sessions.
        last_used_at: last use of any of them.
        app_data: what the hook before sign-ups added; None for nothing.
    """

    id: UUID
    email: str
    name: str
    locale: str
    role: Role
    state: Standing
    created_at: datetime
    disabled_at: datetime | None
    sessions: int
    last_used_at: datetime | None
    app_data: dict[str, Any] | None


@dataclass(frozen=True)
class Filters:
    """Filters of the user list; all given ones must match.

    Args:
        search: prefix of address or name, ignoring case; only the first
            `MOST_SEARCHED` addresses and names are searched.
        role: role of the user.
        standing: whether the user may log in.
    """

    search: str | None = None
    role: Role | None = None
    standing: Standing | None = None


_PEOPLE = f"""
    SELECT u.id, u.email, u.name, u.locale, u.role, u.created_at, u.disabled_at,
           CASE WHEN u.disabled_at IS NULL THEN 'active' ELSE 'disabled' END AS state, live.sessions, live.last_used_at,
           u.app_data
      FROM users u
      JOIN LATERAL (SELECT count(*) AS sessions, max(s.last_used_at) AS last_used_at
                      FROM sessions s WHERE s.user_id = u.id AND {ALIVE}) AS live ON true
"""  # noqa: S608 - a constant
# The newest of each role and standing, then merged: one index serves both filters, alone and together.
_LISTED = """
    SELECT found.id, found.created_at
      FROM unnest(%(roles)s::text[]) AS r (role)
     CROSS JOIN unnest(%(disabled)s::boolean[]) AS d (disabled)
     CROSS JOIN LATERAL (
        SELECT id, created_at FROM users
         WHERE role = r.role AND (disabled_at IS NOT NULL) = d.disabled AND {before}
         ORDER BY created_at DESC, id DESC LIMIT %(limit)s) AS found
"""
# In the order of the prefix index, so that a short prefix ends at the limit.
_SEARCHED = """
    SELECT id, created_at FROM users
     WHERE id IN ({addresses}
                  (SELECT id FROM users WHERE lower(name) LIKE lower(%(name)s)
                    ORDER BY lower(name) USING ~<~ LIMIT %(searched)s))
       AND role = ANY(%(roles)s) AND (disabled_at IS NOT NULL) = ANY(%(disabled)s) AND {before}
"""
_OF_PREFIX = """
    (SELECT id FROM users WHERE email_key LIKE %(address_{number})s ORDER BY email_key USING ~<~ LIMIT %(searched)s)
     UNION ALL
"""


async def list_people(
    conn: Connection, filters: Filters, *, after: Position | None, limit: int
) -> Page[Person]:
    """Return a page of users, newest first.

    Args:
        conn: connection to read with.
        filters: filters of the list.
        after: position before the page; None for the newest.
        limit: rows, at most `MAX_PAGE`.
    """
    before = "(created_at, id) < (%(created_at)s, %(id)s)" if after else "true"
    prefixes = find_key_prefixes(filters.search or "")
    if filters.search:
        addresses = "".join(_OF_PREFIX.format(number=number) for number in range(len(prefixes)))
        chosen = _SEARCHED.format(before=before, addresses=addresses)
    elif filters.role or filters.standing:
        chosen = _LISTED.format(before=before)
    else:
        chosen = f"SELECT id, created_at FROM users WHERE {before}"  # noqa: S608 - constants
    async with conn.cursor(row_factory=class_row(Person)) as cursor:
        await cursor.execute(
            f"""
            WITH chosen AS MATERIALIZED ({chosen} ORDER BY created_at DESC, id DESC LIMIT %(limit)s)
            {_PEOPLE}
              JOIN chosen ON chosen.id = u.id
             ORDER BY u.created_at DESC, u.id DESC
            """,  # constants of this module
            {
                **(vars(after) if after else {}),
                **{f"address_{number}": _escape(text) + "%" for number, text in enumerate(prefixes)},
                "name": _escape(filters.search or "") + "%",
                "searched": MOST_SEARCHED,
                "roles": [filters.role] if filters.role else list(get_args(Role)),
                "disabled": [filters.standing == "disabled"] if filters.standing else [False, True],
                "limit": rows_to_read(limit),
            },
        )
        found = await cursor.fetchall()
    return cut_page(found, limit, after_row)


async def get_person(conn: Connection, user_id: UUID) -> Person:
    """Return a user.

    Raises:
        UserNotFoundError: no user has this id.
    """
    async with conn.cursor(row_factory=class_row(Person)) as cursor:
        await cursor.execute(f"{_PEOPLE} WHERE u.id = %(id)s", {"id": user_id})
        person = await cursor.fetchone()
    if person is None:
        raise UserNotFoundError
    return person


async def find_person(conn: Connection, id_or_address: str) -> Person:
    """Return the user of an id or an address.

    Raises:
        UserNotFoundError: no such user.
    """
    try:
        return await get_person(conn, UUID(id_or_address))
    except ValueError:
        pass
    key = find_key(id_or_address)
    async with conn.cursor(row_factory=class_row(Person)) as cursor:
        await cursor.execute(f"{_PEOPLE} WHERE u.email_key = %(key)s", {"key": key})
        person = await cursor.fetchone()
    if person is None:
        raise UserNotFoundError
    return person


def _escape(text: str) -> str:
    """Escape a text for LIKE."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
