"""The breakers of single routes: one row each, shared by every process.

A row is written by single statements outside any transaction, like `regsvc.mail.queue.breaker`'s.
"""

from __future__ import annotations

from collections.abc import Sequence

from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from regsvc.mail.queue.verdict import UNKNOWN, Breaker, Evidence, judge
from regsvc.postgres.connection import Connection

_TRIES = 5  # attempts to write a row against concurrent processes


async def load_routes(conn: Connection) -> dict[str, Breaker]:
    """Return the breakers of all routes that any process has told of, by name."""
    async with conn.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(
            "SELECT name, open, failures, reason, reply, stage, alike, opened_at, version FROM mail_routes"
        )
        rows = await cursor.fetchall()
    return {row.pop("name"): Breaker(**row) for row in rows}


async def note_route(conn: Connection, name: str, evidence: Sequence[Evidence]) -> Breaker:
    """Judge one route by new evidence, and return its breaker.

    Args:
        conn: not in a transaction, which would lock the row for every other process.
        name: of the route.
        evidence: outcomes, latest last.
    """
    after = UNKNOWN
    for _ in range(_TRIES):
        before = (await load_routes(conn)).get(name, UNKNOWN)
        after = judge(before, evidence)
        if after == before or await _write(conn, name, before, after):
            break
    return after


async def _write(conn: Connection, name: str, before: Breaker, after: Breaker) -> bool:
    """Write a row unless it has changed since it was read, and return whether it was written."""
    cursor = await conn.execute(
        """
        INSERT INTO mail_routes AS r (name, open, failures, reason, reply, stage, alike, opened_at, version)
        VALUES (%(name)s, %(open)s, %(failures)s, %(reason)s, %(reply)s, %(stage)s, %(alike)s,
                CASE WHEN %(open)s THEN now() END, 1)
            ON CONFLICT (name) DO UPDATE
           SET open = excluded.open, failures = excluded.failures, reason = excluded.reason, reply = excluded.reply,
               stage = excluded.stage, alike = excluded.alike, version = r.version + 1, changed_at = now(),
               opened_at = CASE WHEN excluded.open THEN coalesce(r.opened_at, now()) END
         WHERE r.version = %(version)s
        """,
        {
            "name": name,
            "open": after.open,
            "failures": after.failures,
            "reason": after.reason,
            "reply": after.reply,
            "stage": after.stage,
            "alike": Jsonb({words: list(people) for words, people in after.alike.items()}),
            "version": before.version,
        },
    )
    return cursor.rowcount == 1
