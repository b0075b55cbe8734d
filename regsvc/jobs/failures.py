"""Booking failed attempts: the next attempt, or the end, as a retry policy decides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from uuid import UUID

from psycopg.rows import scalar_row

from regsvc.jobs.leases import ids_of, update_leased
from regsvc.jobs.table import J, JobTable
from regsvc.postgres.connection import Connection

Policy = Callable[[J], timedelta | None]
"""Returns the time until the next attempt of a job, or None if it is given up."""


async def book_failures(
    conn: Connection,
    table: JobTable[J],
    failed: Sequence[tuple[J, str]],
    policy: Policy[J],
    *,
    ended: str = "dead",
) -> list[UUID]:
    """Delay or end jobs whose attempt failed and whose leases are held, and return their ids.

    Args:
        conn: connection to write with.
        table: the table of jobs, with a column `reason text`.
        failed: jobs with the reasons.
        policy: decides when each is attempted again.
        ended: state of a job that is given up.
    """
    afters = [policy(job) for job, _ in failed]
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(
            update_leased(
                table,
                "state = CASE WHEN b.after IS NULL THEN %(ended)s ELSE 'delayed' END, due_at = now() + b.after,"
                " reason = b.reason",
                {"after": "interval", "reason": "text"},
            ),
            {
                "ended": ended,
                "after": afters,
                "reason": [reason for _, reason in failed],
                **ids_of([job for job, _ in failed]),
            },
        )
        return await cursor.fetchall()
