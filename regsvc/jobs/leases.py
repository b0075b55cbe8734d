"""Leases of claimed jobs: renewed while a process holds them, released, or spent on an outcome.

Every statement that writes several jobs locks them in the order of their ids, to prevent deadlocks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from psycopg.rows import scalar_row

from regsvc.jobs.table import LEASE, J, JobTable, Leased, compose
from regsvc.postgres.connection import Connection

RENEW_EVERY = timedelta(seconds=15)

# Selects the jobs that are still leased by the caller.
_LEASED: Final = """
    SELECT j.id FROM {table} j
      JOIN unnest(%(ids)s::uuid[], %(leases)s::uuid[]) AS held (id, lease) ON j.id = held.id AND j.lease = held.lease
     ORDER BY j.id"""


def ids_of(jobs: Sequence[Leased]) -> dict[str, list[UUID]]:
    """Return the parameters that name claimed jobs in the statements here."""
    return {"ids": [job.id for job in jobs], "leases": [job.lease for job in jobs]}


async def renew_leases(conn: Connection, table: JobTable[J], jobs: Sequence[Leased]) -> set[UUID]:
    """Renew the leases of these jobs and return the ids of the renewed ones.

    The others are lost, or another transaction holds their rows: see `find_leased`.
    """
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(
            compose(
                f"""
                UPDATE {{table}} j SET due_at = now() + %(life)s
                 WHERE j.id = ANY(ARRAY({_LEASED} FOR UPDATE OF j SKIP LOCKED))
                RETURNING j.id
                """,  # noqa: S608 - a constant
                table,
            ),
            {"life": LEASE, **ids_of(jobs)},
        )
        return set(await cursor.fetchall())


async def find_leased(conn: Connection, table: JobTable[J], jobs: Sequence[Leased]) -> set[UUID]:
    """Return the ids of the jobs whose leases are still held."""
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(compose(_LEASED, table), ids_of(jobs))
        return set(await cursor.fetchall())


async def release_jobs(
    conn: Connection,
    table: JobTable[J],
    jobs: Sequence[Leased],
    *,
    after: timedelta = timedelta(0),
    sets: str = "",
    **params: Any,
) -> None:
    """Release claimed jobs that were not attempted, without counting an attempt.

    Args:
        conn: connection to write with.
        table: the table of jobs.
        jobs: the jobs to release.
        after: time until they are due again.
        sets: further assignments, in SQL.
        params: of these assignments.
    """
    released = update_leased(
        table,
        "state = 'queued', due_at = now() + %(after)s, attempts = j.attempts - 1"
        + (f", {sets}" if sets else ""),
    )
    await conn.execute(
        b"WITH released AS (" + released + b") SELECT pg_notify(%(channel)s, '')",
        {"after": after, "channel": table.channel, **ids_of(jobs), **params},
    )


def update_leased(
    table: JobTable[Any], sets: str, values: Mapping[str, str] | None = None, *, returned: str = "j.id"
) -> bytes:
    """Return the statement that books what became of claimed jobs, if their leases are still held.

    It ends the lease. Its parameters are those of `ids_of` and one list for each of `values`.

    Args:
        table: the table of jobs, called `j` in SQL.
        sets: assignments, in SQL. A new open state comes with its `due_at`, a final one with `due_at = NULL`.
        values: SQL types, such as `interval`, of what differs between the jobs, by name: the columns of `b` in SQL.
        returned: SQL list of what it returns.
    """
    types = {"ids": "uuid", "leases": "uuid"} | dict(values or {})
    names = ["id", "lease", *(values or {})]
    return compose(
        f"""
        UPDATE {{table}} j SET {{sets}}, lease = NULL, changed_at = now()
          FROM unnest({{arrays}}) AS b ({{names}})
         WHERE j.id = ANY(ARRAY({_LEASED} FOR UPDATE OF j)) AND j.id = b.id AND j.lease = b.lease
        RETURNING {{returned}}
        """,  # noqa: S608 - a constant
        table,
        sets=sets,
        arrays=", ".join(f"%({name})s::{kind}[]" for name, kind in types.items()),
        names=", ".join(names),
        returned=returned,
    )
