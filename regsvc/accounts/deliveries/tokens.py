"""Tokens of signed reports that count once, each with the body that it came with."""

from __future__ import annotations

from psycopg.rows import scalar_row

from regsvc.postgres.connection import Connection
from regsvc.security.feedback.signatures import FeedbackSignatureError


async def use_token(conn: Connection, token: bytes, body: bytes) -> None:
    """Use up a token in the caller's transaction. The same body may come again: the first answer may have been lost.

    Args:
        conn: in a transaction.
        token: digest of the token.
        body: digest of the body.

    Raises:
        FeedbackSignatureError: the token came with another body before.
    """
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(
            """
            INSERT INTO feedback_tokens AS t (token, body) VALUES (%(token)s, %(body)s)
            ON CONFLICT (token) DO UPDATE SET token = t.token
            RETURNING body
            """,
            {"token": token, "body": body},
        )
        if bytes(await cursor.fetchone() or b"") != body:
            raise FeedbackSignatureError


async def purge_tokens(conn: Connection, limit: int) -> int:
    """Delete tokens that are too old to be signed for, and return the count."""
    cursor = await conn.execute(
        """
        DELETE FROM feedback_tokens
         WHERE token IN (SELECT token FROM feedback_tokens WHERE used_at <= now() - interval '1 hour'
                          ORDER BY used_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
        """,
        {"limit": limit},
    )
    return cursor.rowcount
