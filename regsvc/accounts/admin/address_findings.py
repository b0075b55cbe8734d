"""Accounts that recomputing the keys of addresses found something about: read by an operator, and dismissed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from psycopg.rows import class_row

from regsvc.postgres.connection import Connection

MOST = 1000  # shown, the newest


@dataclass(frozen=True)
class Finding:
    """What was found about an account.

    Args:
        user_id: The account.
        email: Its address.
        finding: `shared`: attempts of other mailboxes had its key, so one of those may have confirmed it.
            `collides`: another account has the key of its mailbox, so nobody can log in to this one.
        others: What is still stored of the others: kind, id, email and state of each.
        found_at: When.
    """

    user_id: UUID
    email: str
    finding: Literal["shared", "collides"]
    others: list[dict[str, Any]]
    found_at: datetime


async def list_findings(conn: Connection) -> list[Finding]:
    """Return what was found and not dismissed, the newest first."""
    async with conn.cursor(row_factory=class_row(Finding)) as cursor:
        await cursor.execute(
            """
            WITH found AS (
                SELECT user_id, finding, others, found_at FROM address_findings
                 ORDER BY found_at DESC, user_id LIMIT %(most)s
            )
            SELECT f.user_id, u.email, f.finding, f.found_at,
                   coalesce((SELECT jsonb_agg(other) FROM (
                       SELECT jsonb_build_object('kind', 'registration', 'id', r.id, 'email', r.email,
                                                 'state', r.state)
                         FROM registrations r WHERE r.id = ANY(f.others)
                        UNION ALL
                       SELECT jsonb_build_object('kind', 'user', 'id', o.id, 'email', o.email, 'state',
                                                 CASE WHEN o.disabled_at IS NULL THEN 'active' ELSE 'disabled' END)
                         FROM users o WHERE o.id = ANY(f.others)) AS others (other)), '[]') AS others
              FROM found f
              JOIN users u ON u.id = f.user_id
             ORDER BY f.found_at DESC, f.user_id
            """,
            {"most": MOST},
        )
        return await cursor.fetchall()


async def dismiss_findings(conn: Connection, user_ids: Sequence[UUID]) -> int:
    """Forget that accounts shared a key, and return how many did; a collision stays until it is resolved."""
    cursor = await conn.execute(
        "DELETE FROM address_findings WHERE user_id = ANY(%(ids)s) AND finding = 'shared'",
        {"ids": list(user_ids)},
    )
    return cursor.rowcount
