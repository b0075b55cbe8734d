"""Legacy refresh tokens: random, each with its own row, found by hash."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from psycopg.rows import class_row

from regsvc.postgres.connection import Connection
from regsvc.security.tokens import hash_legacy_token


@dataclass(frozen=True)
class LegacyToken:
    """The state of a legacy token.

    Args:
        session_id: session of the token.
        expired: whether the token expired.
        used: whether the token was already exchanged.
        in_grace: whether that was within the grace period.
    """

    session_id: UUID
    expired: bool
    used: bool
    in_grace: bool


async def find_token(conn: Connection, text: str, *, grace: timedelta) -> LegacyToken | None:
    """Return a token, or None if unknown; lock its session so that parallel uses queue.

    Args:
        conn: in a transaction.
        text: the token as received.
        grace: how long after its use a repeated use is accepted.
    """
    values = {"hash": hash_legacy_token(text), "grace": grace}
    # The usual lock order: the user, who is told of a theft, before the session.
    await conn.execute(
        """
        WITH owner AS MATERIALIZED (
            SELECT s.id AS session_id
              FROM refresh_tokens t
              JOIN sessions s ON s.id = t.session_id
              JOIN users u ON u.id = s.user_id
             WHERE t.token_hash = %(hash)s
               FOR KEY SHARE OF u
        )
        SELECT FROM sessions s JOIN owner ON owner.session_id = s.id FOR UPDATE OF s
        """,
        values,
    )
    async with conn.cursor(row_factory=class_row(LegacyToken)) as cursor:
        await cursor.execute(
            """
            SELECT session_id, expires_at <= now() AS expired, used_at IS NOT NULL AS used,
                   coalesce(used_at > now() - %(grace)s, false) AS in_grace
              FROM refresh_tokens
             WHERE token_hash = %(hash)s
            """,
            values,
        )
        return await cursor.fetchone()


async def spend_token(conn: Connection, text: str) -> None:
    """Record that a token was exchanged for the first numbered token of its session."""
    await conn.execute(
        """
        WITH spent AS (
            UPDATE refresh_tokens SET used_at = now() WHERE token_hash = %(hash)s RETURNING session_id
        )
        UPDATE sessions SET refreshed_at = now(), last_used_at = now() WHERE id = (SELECT session_id FROM spent)
        """,
        {"hash": hash_legacy_token(text)},
    )
