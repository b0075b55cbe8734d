"""Accounts with findings from the recomputation of address keys, for an operator to review."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from psycopg.rows import class_row

from regsvc.postgres.connection import Connection

MOST = 1000  # shown, newest first


@dataclass(frozen=True)
class Finding:
    """A finding about an account.

    Args:
        user_id: id of the account.
        email: address of the account.
        finding: `shared`: attempts of other mailboxes had its key and may have confirmed it.
            `collides`: another account has its mailbox's key, so its user cannot log in.
        others: kind, id, email and state of the other rows that are still stored.
        found_at: time of the finding.
    """

    user_id: UUID
    email: str
    finding: Literal["shared", "collides"]
    others: list[dict[str, Any]]
    found_at: datetime


async def list_findings(conn: Connection) -> list[Finding]:
    """Return findings that are not dismissed, newest first."""
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
    """Dismiss `shared` findings of accounts, and return the count; collisions stay until resolved."""
    cursor = await conn.execute(
        "DELETE FROM address_findings WHERE user_id = ANY(%(ids)s) AND finding = 'shared'",
        {"ids": list(user_ids)},
    )
    return cursor.rowcount
