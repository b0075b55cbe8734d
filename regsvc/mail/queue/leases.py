"""Leases of claimed messages: renewed while a process holds them, and released."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

from psycopg.rows import scalar_row

from regsvc.mail.queue.jobs import DUE_CHANNEL, LEASE, Job
from regsvc.postgres.connection import Connection

RENEW_EVERY = timedelta(seconds=15)

# Every statement that writes several messages locks them in the order of their ids, to prevent deadlocks.
# Selects those still leased by the caller.
LEASED: Final = """
    SELECT m.id FROM mails m
      JOIN unnest(%(ids)s::uuid[], %(leases)s::uuid[]) AS held (id, lease) ON m.id = held.id AND m.lease = held.lease
     ORDER BY m.id"""


async def renew_leases(conn: Connection, jobs: Sequence[Job]) -> set[UUID]:
    """Renew the leases of these jobs and return the ids of the renewed ones.

    The others are lost, or another transaction holds their rows: see `find_leased`.
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
    """Return the ids of the jobs whose leases are still held."""
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
    """Release claimed jobs that were not attempted, without counting an attempt.

    Args:
        conn: connection to write with.
        jobs: the jobs to release.
        admitted: those whose turn was taken and need no other.
        after: time until they are due again.
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
