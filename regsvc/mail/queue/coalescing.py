"""Messages that wait for one address's turn: only the newest of them is sent."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from regsvc.postgres.connection import Connection


async def coalesce_waiting(conn: Connection, mail_ids: Sequence[UUID]) -> None:
    """Cancel the waiting messages of these messages' addresses, except the newest of each address."""
    # One address at a time, so that other waiting messages are not read. Those without a registration follow the
    # schedule of their kind.
    await conn.execute(
        """
        WITH addresses AS (
            SELECT DISTINCT coalesce(r.email_key, m.email_key) AS email_key
              FROM mails m LEFT JOIN registrations r ON r.id = m.registration_id
             WHERE m.id = ANY(%(ids)s)
        ), waiting AS (
            SELECT m.id, row_number() OVER (
                       PARTITION BY a.email_key, m.kind_alone ORDER BY m.created_at DESC, m.id) AS place
              FROM addresses a CROSS JOIN LATERAL (
                  SELECT w.id, w.created_at, NULL AS kind_alone
                    FROM registrations r JOIN mails w ON w.registration_id = r.id
                   WHERE r.email_key = a.email_key AND r.state NOT IN ('confirmed', 'expired', 'repudiated')
                     AND w.silent AND w.state = 'delayed'
                   UNION ALL
                  SELECT w.id, w.created_at, w.kind
                    FROM mails w
                   WHERE w.email_key = a.email_key AND w.registration_id IS NULL
                     AND w.silent AND w.state = 'delayed') AS m
        )
        UPDATE mails m
           SET state = 'cancelled', due_at = NULL, changed_at = now(),
               reason = CASE m.reason WHEN 'suppressed' THEN m.reason ELSE 'coalesced' END
         WHERE m.id = ANY(ARRAY(
                   SELECT m.id FROM mails m JOIN waiting USING (id)
                    WHERE waiting.place > 1 ORDER BY m.id FOR UPDATE OF m))
           AND m.state = 'delayed'
        """,
        {"ids": list(mail_ids)},
    )
