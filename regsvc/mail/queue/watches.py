"""Watched messages: those that a client waits for at this moment, by a lease that the client's process renews."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

from regsvc.postgres.connection import Connection

WATCHED: Final = timedelta(seconds=6)
"""The life of a watch, renewed every two seconds."""
PER_NETWORK: Final = 4
"""Messages of one client network that count as watched, the newest ones."""
COUNTED: Final = 500
"""Newest watches that a claim looks at."""


async def watch_mails(conn: Connection, registration_ids: Sequence[UUID]) -> None:
    """Mark the unsent messages of these registrations as watched.

    Only the newest few of each network are written. It changes nothing that a client is shown.
    """
    await conn.execute(
        """
        INSERT INTO mail_watches AS w (mail_id, origin, created_at, until)
        SELECT id, origin, created_at, now() + %(life)s
          FROM (SELECT m.id, r.origin, m.created_at,
                       row_number() OVER (PARTITION BY r.origin ORDER BY m.created_at DESC, m.id) AS place
                  FROM registrations r
                 CROSS JOIN LATERAL (
                       SELECT own.id, own.created_at FROM mails own
                        WHERE own.registration_id = r.id AND own.state IN ('queued', 'delayed')
                        UNION ALL
                       SELECT again.id, again.created_at FROM mails again
                        WHERE again.kind = 'resend' AND again.email_key = r.email_key AND again.wanted = r.id
                          AND again.registration_id IS NULL AND again.state = 'queued'
                        UNION ALL
                       SELECT login.id, login.created_at FROM mails login
                        WHERE login.kind = 'login' AND login.wanted = r.id
                          AND login.state IN ('queued', 'delayed')) AS m
                 WHERE r.id = ANY(%(ids)s)) AS unsent
         WHERE place <= %(most)s
         ORDER BY id
            ON CONFLICT (mail_id) DO UPDATE SET until = greatest(w.until, excluded.until)
        """,
        {"ids": list(registration_ids), "life": WATCHED, "most": PER_NETWORK},
    )


async def purge_watches(conn: Connection, limit: int) -> int:
    """Delete watches that have ended, and return the count."""
    cursor = await conn.execute(
        """
        DELETE FROM mail_watches WHERE mail_id = ANY(ARRAY(
            SELECT mail_id FROM mail_watches WHERE until <= now() ORDER BY mail_id LIMIT %(limit)s
               FOR UPDATE SKIP LOCKED))
        """,
        {"limit": limit},
    )
    return cursor.rowcount
