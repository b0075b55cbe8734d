"""Suppressed addresses, as the console lists them."""

from __future__ import annotations

from psycopg.rows import class_row

from regsvc.accounts.cursor import Page, Position, cut_page, rows_to_read
from regsvc.accounts.deliveries.suppression import COLUMNS, Suppression, make_key
from regsvc.accounts.deliveries.suppression_key import find_mac_key
from regsvc.postgres.connection import Connection
from regsvc.security.tokens import Secrets


async def list_page(conn: Connection, *, after: Position | None, limit: int) -> Page[Suppression]:
    """Return a page of suppressed addresses, the last changed first.

    Args:
        conn: connection to read with.
        after: position before the page, by the time of the last change; None for the newest.
        limit: rows.
    """
    before = "(changed_at, id) < (%(created_at)s, %(id)s)" if after else "true"
    async with conn.cursor(row_factory=class_row(Suppression)) as cursor:
        await cursor.execute(
            f"SELECT {COLUMNS} FROM suppressions WHERE {before} "  # noqa: S608 - constants
            "ORDER BY changed_at DESC, id DESC LIMIT %(limit)s",
            {**(vars(after) if after else {}), "limit": rows_to_read(limit)},
        )
        found = await cursor.fetchall()
    return cut_page(found, limit, lambda row: Position(row.changed_at, row.id).encode())


async def find_by_address(conn: Connection, secrets: Secrets, email_key: str) -> Page[Suppression]:
    """Return the entry of one address, on a page of its own."""
    mac_key = await find_mac_key(conn, secrets)
    if mac_key is None:
        return Page([], None)
    async with conn.cursor(row_factory=class_row(Suppression)) as cursor:
        await cursor.execute(
            f"SELECT {COLUMNS} FROM suppressions WHERE key = %(key)s",  # noqa: S608 - a constant
            {"key": make_key(mac_key, email_key)},
        )
        return Page(await cursor.fetchall(), None)
