"""Claiming due jobs. All functions take the caller's connection; none commits."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from psycopg.rows import class_row, scalar_row

from regsvc.jobs.table import LEASE, J, JobTable, compose
from regsvc.postgres.connection import Connection

_CLAIMABLE = "id = ANY(%(ids)s) AND state IN ('queued', 'sending', 'delayed') AND (state = 'queued' OR due_at <= now())"


async def claim_due(
    conn: Connection, table: JobTable[J], limit: int, *, overdue: timedelta = timedelta(0)
) -> list[J]:
    """Claim jobs that have been due for at least `overdue`, oldest first."""
    return await claim_selected(
        conn,
        table,
        """
        SELECT id FROM {table}
         WHERE {open} AND due_at <= now() - %(overdue)s
         ORDER BY due_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
        """,
        overdue=overdue,
        limit=limit,
    )


async def claim_ids(conn: Connection, table: JobTable[J], ids: Sequence[UUID]) -> list[J]:
    """Claim those of the jobs that may be claimed; the others are finished, claimed elsewhere, or not yet due.

    Jobs held by another transaction are skipped: its process may have lost power during a claim. See
    `find_claimable`.
    """
    return await claim_selected(
        conn,
        table,
        f"SELECT id FROM {{table}} WHERE {_CLAIMABLE} ORDER BY id FOR UPDATE SKIP LOCKED",  # noqa: S608 - a constant
        ids=list(ids),
    )


async def find_claimable(conn: Connection, table: JobTable[J], ids: Collection[UUID]) -> set[UUID]:
    """Return those of these jobs that may be claimed: after a claim, those another transaction holds."""
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(
            compose(f"SELECT id FROM {{table}} WHERE {_CLAIMABLE}", table),  # noqa: S608 - a constant
            {"ids": list(ids)},
        )
        return set(await cursor.fetchall())


async def claim_selected(conn: Connection, table: JobTable[J], which: str, **params: Any) -> list[J]:
    """Claim the jobs whose ids a statement returns.

    The ids are passed as an array, so that the plan uses the primary key for any number of jobs.

    Args:
        conn: connection to write with.
        table: the table of jobs.
        which: SQL that selects the ids and locks the rows; `{table}` and `{open}` as in `compose`.
        params: of that statement.
    """
    statement = compose(
        f"""
        UPDATE {{table}}
           SET state = 'sending', lease = %(lease)s, due_at = now() + %(life)s, attempts = attempts + 1,
               changed_at = now(){{claimed}}
         WHERE id = ANY(ARRAY({which}))
        RETURNING {{columns}}
        """,  # noqa: S608 - SQL from the code
        table,
        claimed=f", {table.claimed}" if table.claimed else "",
        columns=table.columns,
    )
    async with conn.cursor(row_factory=class_row(table.row)) as cursor:
        await cursor.execute(statement, {"lease": uuid4(), "life": LEASE, **params})
        return await cursor.fetchall()


async def seconds_until_due(conn: Connection, table: JobTable[J]) -> float | None:
    """Return the seconds until the next job is due (0 or less: now), or None if none is open."""
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(
            compose("SELECT extract(epoch FROM min(due_at) - now())::float8 FROM {table} WHERE {open}", table)
        )
        return await cursor.fetchone()


async def count_due(conn: Connection, table: JobTable[J], *, at_most: int) -> int:
    """Return how many jobs are due and not claimed; `at_most` if there are more, so that it never takes long."""
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(
            compose(
                "SELECT count(*) FROM (SELECT FROM {table} WHERE {open} AND due_at <= now() LIMIT %(at_most)s) AS due",
                table,
            ),
            {"at_most": at_most},
        )
        counted: int | None = await cursor.fetchone()
        return counted or 0
