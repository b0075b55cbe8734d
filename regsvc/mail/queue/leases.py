"""Releasing claimed messages."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import timedelta
from uuid import UUID

from regsvc.jobs import leases
from regsvc.mail.queue.jobs import MAIL_JOBS, Job
from regsvc.postgres.connection import Connection


async def release_jobs(
    conn: Connection,
    jobs: Sequence[Job],
    *,
    admitted: Collection[UUID] = (),
    after: timedelta = timedelta(0),
) -> None:
    """Release claimed messages that were not attempted, without counting an attempt.

    Args:
        conn: connection to write with.
        jobs: the messages to release.
        admitted: those whose turn was taken and need no other.
        after: time until they are due again.
    """
    await leases.release_jobs(
        conn,
        MAIL_JOBS,
        jobs,
        after=after,
        sets="admitted = j.admitted OR j.id = ANY(%(admitted)s)",
        admitted=list(admitted),
    )
