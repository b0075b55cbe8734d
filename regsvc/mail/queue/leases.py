"""Leases of claimed mails: renewed while a process has them in hand, and given back."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

from psycopg.rows import scalar_row

from regsvc.mail.queue.jobs import DUE_CHANNEL, LEASE, Job
from regsvc.postgres.connection import Connection

RENEW_EVERY = timedelta(seconds=15)

# Several mails are locked in the order of their ids, by every statement that writes them, or two could wait for each
# other. Selects those that are still ours.
LEASED: Final = """
    SELECT m.id FROM mails m
      JOIN unnest(%(ids)s::uuid[], %(leases)s::uuid[]) AS held (id, lease) ON m.id = held.id AND m.lease = held.lease
     ORDER BY m.id"""


async def renew_leases(conn: Connection, jobs: Sequence[Job]) -> set[UUID]:
    """Renew the leases of these jobs and return the ids of those that were.

    The others are not ours any more, or another transaction holds their rows: see `find_leased`.
    """
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(
            f"""
            UPDATE mails m SET due_at = now() + %(life)s
             WHERE m.id = ANY(ARRAY({LEASED} FOR UPDATE OF m SKIP LOCKED))
            RETURNING m.id
            """,  # noqa: S608 - a constant of this module
            {"life": LEASE, "ids": [job.id for job in jobs], "leases": [job.lease for job in jobs]},
        )
        return set(await cursor.fetchall())


async def find_leased(conn: Connection, jobs: Sequence[Job]) -> set[UUID]:
    """Return the ids of those jobs that are still ours."""
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(LEASED, {"ids": [job.id for job in jobs], "leases": [job.lease for job in jobs]})
        return set(await cursor.fetchall())


async def release_jobs(
    conn: Connection,
    jobs: Sequence[Job],
    *,
    admitted: Collection[UUID] = (),
    after: timedelta = timedelta(0),
) -> None:
    """Give back what was claimed and not tried, with no attempt counted.

    Args:
        conn: writes.
        jobs: what is given back.
        admitted: those that have had their address's turn, which is not asked for again.
        after: until they are due.
    """
    await conn.execute(
        f"""
        WITH released AS (
            UPDATE mails m
               SET state = 'queued', due_at = now() + %(after)s, lease = NULL, attempts = m.attempts - 1,
                   admitted = m.admitted OR m.id = ANY(%(admitted)s),
                   changed_at = now()
             WHERE m.id = ANY(ARRAY({LEASED} FOR UPDATE OF m))
        )
        SELECT pg_notify(%(channel)s, '')
        """,  # noqa: S608 - a constant of this module
        {
            "ids": [job.id for job in jobs],
            "leases": [job.lease for job in jobs],
            "admitted": list(admitted),
            "after": after,
            "channel": DUE_CHANNEL,
        },
    )
