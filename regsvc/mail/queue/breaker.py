"""The circuit breaker in front of the mail server: one row, shared by every process.

It opens when the server objects to us (login, sender, policy), or after ten consecutive connection failures. While it
is open, one message every ten seconds probes the server. The others are held without counting an attempt, so that an
outage costs no message an attempt. Probes begin with the first failure and take messages that would wait until after
the next probe: where there is little mail, ten consecutive failures take hours. A message that was never refused is
probed first, so that refused ones do not decide for the rest.

When a message shows that the server works, only the breaker's row is written: each waiting message has the number of
the recovery it waits for, and the next recovery makes it due. Released messages are claimed slowly at first and at full
speed within a minute. `regsvc.mail.queue.verdict` evaluates outcomes.

The row is read without a lock and written by single statements outside any transaction, so a vanished process never
holds it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from datetime import timedelta

from psycopg.rows import scalar_row
from psycopg.types.json import Jsonb

from regsvc.mail.outcome import Stage
from regsvc.mail.queue import jobs
from regsvc.mail.queue.jobs import DUE_CHANNEL, Job
from regsvc.mail.queue.precedence import Precedence, claim_best
from regsvc.mail.queue.verdict import AWAY, UNKNOWN, Breaker, Evidence, judge, refused_domains
from regsvc.postgres.connection import Connection
from regsvc.postgres.query import (
    Query,
    or_null,
    read_boolean,
    read_double,
    read_integer,
    read_text,
    read_timestamp,
)

PROBE_EVERY = timedelta(seconds=10)
SPREAD = timedelta(seconds=60)  # from a recovery until waiting messages are claimed at full speed
HOLD = timedelta(minutes=30)  # until a held message is claimed again, if the breaker does not close before

_TRIES = 5  # attempts to write the row against concurrent processes


_STATE = Query(
    """
    SELECT open, failures, reason, reply, opened_at, stage, alike::text, recovered, closed,
           CASE WHEN releasing THEN extract(epoch FROM now() - recovered_at)::float8 END, version
      FROM mail_breaker
    """,
    [],
    [
        read_boolean,
        read_integer,
        or_null(read_text),
        or_null(read_text),
        or_null(read_timestamp),
        or_null(read_text),
        json.loads,
        read_integer,
        read_integer,
        or_null(read_double),
        read_integer,
    ],
)


async def get_breaker(conn: Connection) -> Breaker:
    """Return the state of the breaker."""
    rows = await _STATE.execute(conn)
    return Breaker(*rows[0]) if rows else UNKNOWN


async def note_outcomes(conn: Connection, evidence: Sequence[Evidence]) -> bool | None:
    """Open or close the breaker according to outcomes.

    Args:
        conn: not in a transaction, which would lock the row for every other process.
        evidence: outcomes, latest last.

    Returns:
        True if this call opened it, False if it closed it, None otherwise.
    """
    for _ in range(_TRIES):
        before = await get_breaker(conn)
        after = judge(before, evidence)
        if after == before:
            return None
        if await _write(conn, before, after):
            return None if after.open == before.open else after.open
    return None  # concurrent processes keep writing it, with outcomes as new as ours


async def _write(conn: Connection, before: Breaker, after: Breaker) -> bool:
    """Write the breaker's row unless it has changed since it was read, and return whether it was written."""
    cursor = await conn.execute(
        """
        WITH written AS (
            UPDATE mail_breaker
               SET open = %(open)s, failures = %(failures)s, reason = %(reason)s, reply = %(reply)s,
                   stage = %(stage)s, alike = %(alike)s, recovered = %(recovered)s, closed = %(closed)s,
                   opened_at = CASE WHEN %(open)s THEN coalesce(opened_at, now()) END,
                   probe_at = CASE WHEN open AND %(open)s THEN probe_at
                                   WHEN %(open)s OR %(failures)s > 0 THEN now() + %(every)s END,
                   recovered_at = CASE WHEN recovered < %(recovered)s THEN now() ELSE recovered_at END,
                   releasing = releasing OR recovered < %(recovered)s,
                   version = version + 1
             WHERE version = %(version)s
            RETURNING recovered
        )
        SELECT CASE WHEN recovered > %(before)s THEN pg_notify(%(channel)s, '') END FROM written
        """,
        {
            "open": after.open,
            "failures": after.failures,
            "reason": after.reason,
            "reply": after.reply,
            "stage": after.stage,
            "alike": Jsonb({words: list(people) for words, people in after.alike.items()}),
            "recovered": after.recovered,
            "closed": after.closed,
            "every": PROBE_EVERY,
            "version": before.version,
            "before": before.recovered,
            "channel": DUE_CHANNEL,
        },
    )
    return cursor.rowcount == 1


async def get_due_probe(conn: Connection) -> Stage | None:
    """Return the stage at which the server failed if a probe is due, else None."""
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(
            "SELECT coalesce(stage, 'mail') FROM mail_breaker WHERE (open OR failures > 0) AND probe_at <= now()"
        )
        return await cursor.fetchone()


async def take_probe(conn: Connection) -> bool:
    """Take the turn to probe, due every ten seconds, and return whether it was available."""
    cursor = await conn.execute(
        """
        UPDATE mail_breaker SET probe_at = now() + %(every)s
         WHERE (open OR failures > 0) AND probe_at <= now()
        """,
        {"every": PROBE_EVERY},
    )
    return cursor.rowcount == 1


async def claim_probe(conn: Connection, state: Breaker) -> list[Job]:
    """Claim the message that probes the server, for the process that took the turn.

    Nothing is claimed while the server works, nor a message that waits for its recipient or its turn.
    """
    if state.open:
        return await jobs.claim_waiting(conn, None, beyond=timedelta(0), avoid=refused_domains(state))
    if state.failures:
        return await jobs.claim_waiting(conn, AWAY, beyond=PROBE_EVERY)
    return []


async def claim_next(
    conn: Connection,
    state: Breaker,
    *,
    limit: int,
    overdue: timedelta = timedelta(0),
    precedence: Precedence | None = None,
) -> list[Job]:
    """Claim due messages, then those that the last recovery released.

    Args:
        conn: connection to write with.
        state: state of the breaker.
        limit: maximum number of messages.
        overdue: how long a message must have been due.
        precedence: decides between the best and the oldest; None: the oldest.
    """
    best = precedence is not None and precedence.takes_best(limit)
    due = await (
        claim_best(conn, limit, overdue=overdue) if best else jobs.claim_due(conn, limit, overdue=overdue)
    )
    if precedence is not None:
        precedence.note(len(due), limit=limit, best=best)
    if state.open or state.recovered_for is None or len(due) == limit:
        return due
    share = math.ceil(limit * min(1.0, state.recovered_for / SPREAD.total_seconds())) or 1
    released = await jobs.claim_released(
        conn,
        min(share, limit - len(due)),
        recovered=state.recovered,
        closed=state.closed,
        away=AWAY,
    )
    return [*due, *released]


async def note_released(conn: Connection, state: Breaker) -> None:
    """Record that all messages released by the last recovery are claimed, once that is final.

    For a minute a message held before the recovery may still be booked.
    """
    if state.recovered_for is not None and state.recovered_for > SPREAD.total_seconds():
        await conn.execute(
            "UPDATE mail_breaker SET releasing = false WHERE releasing AND recovered = %(recovered)s",
            {"recovered": state.recovered},
        )
