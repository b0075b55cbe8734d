"""Mails of kinds that the version before does not know: while both run, its workers cancel what they cannot send."""

from __future__ import annotations

from regsvc.mail.queue.jobs import DUE_CHANNEL
from regsvc.postgres.connection import Connection

# Our own worker cancels such a mail in the same way when its user or attempt is gone: a few tries tell them apart.
_MOST_ATTEMPTS = 6


async def revive_unknown_kinds(conn: Connection, limit: int) -> int:
    """Take up security notices and login codes that an older worker cancelled within the last hour.

    Returns:
        How many.
    """
    cursor = await conn.execute(
        """
        WITH revived AS (
            UPDATE mails SET state = 'queued', due_at = now(), reason = NULL, changed_at = now()
             WHERE id IN (SELECT id FROM mails
                           WHERE kind IN ('security', 'login') AND state = 'cancelled'
                             AND reason = 'registration_over' AND attempts < %(most)s
                             AND created_at > now() - interval '1 hour'
                           ORDER BY created_at, id LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
            RETURNING id
        )
        SELECT pg_notify(%(channel)s, '') FROM revived
        """,
        {"limit": limit, "most": _MOST_ATTEMPTS, "channel": DUE_CHANNEL},
    )
    return cursor.rowcount
