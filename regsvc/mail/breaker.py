"""The circuit breaker in front of the mail server.

It opens when the server objects to us (log-in, sender, policy), or cannot be reached ten times in a row. While it is
open no mail is tried, but for one every ten seconds that finds out whether the trouble is over; the others are held
without an attempt being counted, so that no outage burns a mail. When it closes, what waited is due within a minute,
spread so that the server is not run over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from psycopg.rows import class_row

from regsvc.mail.jobs import DUE_CHANNEL
from regsvc.mail.outcome import CONNECTION_REASONS, Accepted, Bounced, Delayed, Outcome, Refused, Stage
from regsvc.postgres.connection import Connection

OPENS_AT = 10  # failures in a row
PROBE_EVERY = timedelta(seconds=10)
SPREAD = timedelta(seconds=60)  # over which what waited comes due again
HOLD = timedelta(minutes=30)  # until a held mail is looked at again, if nothing closes the breaker before

# A refusal before there is a recipient is about us for certain. Later it may be one recipient's own policy: it takes
# two of them.
_EARLY: frozenset[Stage] = frozenset({"connect", "tls", "greeting", "ehlo", "starttls", "auth", "mail"})
_LATE_WEIGHT = 5


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
        if isinstance(outcome, Accepted | Bounced):
            works, weight = True, 0
        elif isinstance(outcome, Refused):
            weight += OPENS_AT if outcome.stage in _EARLY else _LATE_WEIGHT
            reason, reply = outcome.reason, outcome.reply
        elif isinstance(outcome, Delayed) and outcome.reason in CONNECTION_REASONS:
            weight += 1
            reason, reply = outcome.reason, outcome.reply
    return Verdict(works, weight, reason if weight else "", reply if weight else "")


async def get_breaker(conn: Connection) -> Breaker:
    """Return how the breaker stands."""
    async with conn.cursor(row_factory=class_row(Breaker)) as cursor:
        await cursor.execute("SELECT open, failures, reason, reply, opened_at FROM mail_breaker")
        found = await cursor.fetchone()
    return found or UNKNOWN


async def take_probe(conn: Connection) -> bool:
    """Say whether the caller may try one mail through the open breaker; nobody else may for ten seconds then."""
    cursor = await conn.execute(
        "UPDATE mail_breaker SET probe_at = now() + %(every)s WHERE open AND probe_at <= now()",
        {"every": PROBE_EVERY},
    )
    return cursor.rowcount > 0


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
    """Forget failures; when the breaker was open, make what waited due, and say so."""
    cursor = await conn.execute(
        """
        UPDATE mail_breaker b
           SET open = false, failures = 0, reason = NULL, reply = NULL, opened_at = NULL, probe_at = NULL
          FROM (SELECT open FROM mail_breaker WHERE open OR failures > 0 FOR UPDATE) AS before
        RETURNING before.open
        """
    )
    row = await cursor.fetchone()
    if not (row and row[0]):
        return False
    await conn.execute(
        """
        WITH released AS (
            UPDATE mails SET due_at = now() + random() * %(spread)s
             WHERE state = 'delayed' AND due_at > now() + %(spread)s AND NOT (reason = ANY(%(own)s))
        )
        SELECT pg_notify(%(channel)s, '')
        """,
        {"spread": SPREAD, "own": list(_RECIPIENTS_OWN), "channel": DUE_CHANNEL},
    )
    return True


# Delays that an outage of the server has nothing to do with.
_RECIPIENTS_OWN = frozenset(
    {"held_back", "temporary_failure", "mailbox_busy", "mailbox_full", "maildir_write_failed", "internal_error"}
)
