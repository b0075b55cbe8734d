"""The circuit breaker in front of the mail server.

It opens when the server objects to us (log-in, sender, policy), or cannot be reached ten times in a row. While it is
open no mail is tried, but for one every ten seconds that finds out whether the trouble is over; the others are held
without an attempt being counted, so that no outage burns a mail. Where there is little mail, ten failures in a row take
hours, and what waits would wait an hour more when the server is long back: so such probes begin with the first failed
connection, of mails that would wait for more than a minute. When a mail shows that the server works, those that waited
for it are due within a minute, spread so that it is not run over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import get_args

from psycopg.rows import class_row, scalar_row

from regsvc.mail.outcome import (
    CONNECTION_REASONS,
    Accepted,
    Bounced,
    Delayed,
    Outcome,
    Reason,
    Refused,
    Stage,
)
from regsvc.mail.queue import jobs
from regsvc.mail.queue.jobs import DUE_CHANNEL, Job
from regsvc.postgres.connection import Connection

OPENS_AT = 10  # failures in a row
PROBE_EVERY = timedelta(seconds=10)
SPREAD = timedelta(seconds=60)  # over which what waited comes due again
HOLD = timedelta(minutes=30)  # until a held mail is looked at again, if nothing closes the breaker before

# Of delays that end when the server works again, also for what it has against us.
SERVER_REASONS = frozenset(get_args(Reason)) - {
    "temporary_failure",
    "mailbox_busy",
    "mailbox_full",
    "maildir_write_failed",
}

# A refusal before there is a recipient is about us for certain. Later it may be one recipient's own policy: it takes
# two of them.
_EARLY: frozenset[Stage] = frozenset({"connect", "tls", "greeting", "ehlo", "starttls", "auth", "mail"})
_LATE_WEIGHT = 5
# Where a mail that bounces was judged by the server, and not by ourselves before it was asked.
_JUDGED: frozenset[Stage] = frozenset({"rcpt", "data", "dot"})


@dataclass(frozen=True)
class Breaker:
    """How the breaker stands.

    Args:
        open: nothing is sent but probes.
        failures: in a row, weighed.
        reason: why it opened, one of `regsvc.mail.outcome.Reason`.
        reply: what the server said then.
        opened_at: when that was.
    """

    open: bool
    failures: int
    reason: str | None
    reply: str | None
    opened_at: datetime | None


UNKNOWN = Breaker(open=False, failures=0, reason=None, reply=None, opened_at=None)


@dataclass(frozen=True)
class Verdict:
    """What some outcomes, in order, say about the server as a whole.

    Args:
        works: the server did its job, after which so many failures came.
        weight: of those failures.
        reason: of the last of them.
        reply: of the last of them.
    """

    works: bool = False
    weight: int = 0
    reason: str = ""
    reply: str = ""


def weigh(outcomes: Sequence[Outcome]) -> Verdict:
    """Return what outcomes say about the server, the latest last.

    A mail that was accepted or bounced shows that the server works. A connection that failed weighs 1; a refusal of
    us before there is a recipient weighs all that it takes to open, a later one half of that. What is between the
    server and one recipient (greylisting, a full mailbox) says nothing.
    """
    works, weight, reason, reply = False, 0, "", ""
    for outcome in outcomes:
        if isinstance(outcome, Accepted) or (isinstance(outcome, Bounced) and outcome.stage in _JUDGED):
            works, weight = True, 0
        elif isinstance(outcome, Refused):
            weight += OPENS_AT if is_about_us(outcome) else _LATE_WEIGHT
            reason, reply = outcome.reason, outcome.reply
        elif isinstance(outcome, Delayed) and outcome.reason in CONNECTION_REASONS:
            weight += 1
            reason, reply = outcome.reason, outcome.reply
    return Verdict(works, weight, reason if weight else "", reply if weight else "")


def is_about_us(outcome: Refused) -> bool:
    """Say whether a refusal is about us for certain: it came before the server knew of a recipient."""
    return outcome.stage in _EARLY


def is_repetition(outcome: Outcome, attempt: int) -> bool:
    """Say whether an outcome says of the server no more than the same mail's last one did.

    One recipient's own policy refuses one mail as often as it is tried; that is not a second recipient.
    """
    return isinstance(outcome, Refused) and not is_about_us(outcome) and attempt > 1


async def get_breaker(conn: Connection) -> Breaker:
    """Return how the breaker stands."""
    async with conn.cursor(row_factory=class_row(Breaker)) as cursor:
        await cursor.execute("SELECT open, failures, reason, reply, opened_at FROM mail_breaker")
        found = await cursor.fetchone()
    return found or UNKNOWN


async def keep_open(conn: Connection) -> Breaker:
    """Return how the breaker stands, and if it is open keep it so until the caller's transaction ends.

    What is held in that transaction is there, then, when the breaker closes and makes due what waited.
    """
    state = await get_breaker(conn)
    if state.open:  # the row is locked no more often than that: every claim comes by here
        await conn.execute("SELECT FROM mail_breaker FOR SHARE")
        state = await get_breaker(conn)
    return state


async def get_due_probe(conn: Connection) -> str | None:
    """Return why the server is in doubt, if it is time to find out whether it is back; else None."""
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(
            "SELECT reason FROM mail_breaker WHERE (open OR failures > 0) AND probe_at <= now()"
        )
        return await cursor.fetchone()


async def note_failed_probe(conn: Connection, outcome: Outcome) -> bool | None:
    """Count a probe that failed without a mail, put the next one off, and say whether this opened the breaker."""
    await conn.execute("UPDATE mail_breaker SET probe_at = now() + %(every)s", {"every": PROBE_EVERY})
    return await note_verdict(conn, weigh([outcome]))


async def claim_probe(conn: Connection) -> list[Job]:
    """Claim the one mail that finds out whether the server is back; nobody may claim another for ten seconds then.

    Nothing is claimed while the server works, nor a mail that waits for its recipient or its turn.
    """
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(
            """
            UPDATE mail_breaker SET probe_at = now() + %(every)s
             WHERE (open OR failures > 0) AND probe_at <= now()
            RETURNING open
            """,
            {"every": PROBE_EVERY},
        )
        was_open = await cursor.fetchone()
    if was_open is None:
        return []
    return await jobs.claim_waiting(conn, _ended_by_success(was_open=was_open), beyond=SPREAD)


def _ended_by_success(*, was_open: bool) -> frozenset[str]:
    """Return the reasons of delays that a success ends: what the server has against one mail alone is none."""
    return SERVER_REASONS if was_open else CONNECTION_REASONS


async def note_verdict(conn: Connection, verdict: Verdict) -> bool | None:
    """Open or close the breaker as a verdict says.

    Returns:
        True when this opened it, False when this closed it, None when it stands as before.
    """
    closed = await _close(conn) if verdict.works else False
    if verdict.weight and await _count(conn, verdict):
        return None if closed else True
    return False if closed else None


async def _count(conn: Connection, verdict: Verdict) -> bool:
    """Count failures and say whether they opened the breaker."""
    cursor = await conn.execute(
        """
        UPDATE mail_breaker b
           SET failures = least(b.failures + %(weight)s, 1000000),
               open = b.open OR b.failures + %(weight)s >= %(opens_at)s,
               reason = %(reason)s, reply = %(reply)s,
               opened_at = CASE WHEN b.open THEN b.opened_at
                                WHEN b.failures + %(weight)s >= %(opens_at)s THEN now() END,
               probe_at = CASE WHEN b.open THEN b.probe_at ELSE now() + %(every)s END
          FROM (SELECT open FROM mail_breaker FOR UPDATE) AS before
        RETURNING b.open AND NOT before.open
        """,
        {
            "weight": verdict.weight,
            "opens_at": OPENS_AT,
            "reason": verdict.reason,
            "reply": verdict.reply,
            "every": PROBE_EVERY,
        },
    )
    row = await cursor.fetchone()
    return bool(row and row[0])


async def _close(conn: Connection) -> bool:
    """Forget failures, make due what waited for the server, and say whether the breaker was open."""
    cursor = await conn.execute(
        """
        UPDATE mail_breaker b
           SET open = false, failures = 0, reason = NULL, reply = NULL, opened_at = NULL, probe_at = NULL
          FROM (SELECT open FROM mail_breaker WHERE open OR failures > 0 FOR UPDATE) AS before
        RETURNING before.open
        """
    )
    row = await cursor.fetchone()
    if row is None:
        return False
    was_open = bool(row[0])
    await conn.execute(
        """
        WITH released AS (
            UPDATE mails SET due_at = now() + random() * %(spread)s
             WHERE state = 'delayed' AND due_at > now() + %(spread)s AND reason = ANY(%(reasons)s)
        )
        SELECT pg_notify(%(channel)s, '')
        """,
        {"spread": SPREAD, "reasons": list(_ended_by_success(was_open=was_open)), "channel": DUE_CHANNEL},
    )
    return was_open
