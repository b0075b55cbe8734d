"""Writing down what became of a job: sent, to be tried again, waiting for its turn, or ended.

Only whoever still holds the lease may write, but for the acceptance: a mail in the server's hands is sent, whoever
took it up meanwhile. All functions take the caller's connection; none commits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from psycopg.rows import scalar_row

from regsvc.mail.outcome import Stage
from regsvc.mail.queue.jobs import Job, SentAs
from regsvc.mail.queue.leases import LEASED
from regsvc.mail.queue.verdict import EARLY, waits_for_server
from regsvc.postgres.connection import Connection

Ending = Literal["bounced", "cancelled", "dead"]

# Failed attempts are noted in the statement that books them. The accepted one is not: it stands in the mail's row,
# and a row more for every mail would be the dearest part of booking it.
_NOTED = """noted AS (
                INSERT INTO mail_attempts (mail_id, attempt, outcome, stage, reason, reply)
                SELECT id, attempts, state, stage, reason, reply FROM booked WHERE tried"""


@dataclass(frozen=True)
class Sent:
    """The server accepted the mail."""

    job: Job
    reply: str


@dataclass(frozen=True)
class Retry:
    """The mail is to be tried again, after so long at the latest.

    Args:
        job: of the attempt.
        after: until the next try.
        reason: of the delay.
        reply: what the server said.
        stage: at which it said so; None if the mail was not tried.
        alike: others were refused in the same words, so that it waits for the server as they do.
    """

    job: Job
    after: timedelta
    reason: str
    reply: str = ""
    stage: Stage | None = None
    alike: bool = False

    @property
    def waits(self) -> bool:
        """Whether it is due as soon as the server recovers."""
        return self.alike or waits_for_server(self.reason, self.stage)

    @property
    def refused(self) -> bool:
        """Whether it failed where its recipient is known: it is the last to find out whether the server is back."""
        return self.stage is not None and self.stage not in EARLY


@dataclass(frozen=True)
class Held:
    """The mail waits for its address's turn, and nobody is shown that it does.

    Args:
        job: of the mail.
        until: when its turn comes.
        leader: the mail that has the turn, if it is known.
    """

    job: Job
    until: datetime
    leader: UUID | None = None


@dataclass(frozen=True)
class Ended:
    """The mail will not be sent. `tried`: that is what came of an attempt; a mail is never cancelled by one."""

    job: Job
    state: Ending
    reason: str
    reply: str = ""
    stage: Stage | None = None
    tried: bool = True


async def book_sent(conn: Connection, sent: Sequence[tuple[Sent, SentAs]]) -> list[UUID]:
    """Book accepted mails and return their ids, less those that were booked before.

    The lease is not asked for: the mail is in the server's hands, and whoever took it up meanwhile must not send
    it again.
    """
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(
            """
            UPDATE mails m
               SET state = 'sent', sent_at = now(), changed_at = now(), due_at = NULL, lease = NULL,
                   published_at = NULL, reason = NULL, reply = b.reply, sent_as = b.sent_as,
                   foreign_token = NULL
              FROM unnest(%(ids)s::uuid[], %(replies)s::text[], %(sent_as)s::text[]) AS b (id, reply, sent_as)
             WHERE m.id = ANY(ARRAY(SELECT id FROM mails WHERE id = ANY(%(ids)s) ORDER BY id FOR UPDATE))
               AND m.id = b.id AND m.state IN ('queued', 'sending', 'delayed')
            RETURNING m.id
            """,
            {
                "ids": [booking.job.id for booking, _ in sent],
                "replies": [booking.reply for booking, _ in sent],
                "sent_as": [sent_as for _, sent_as in sent],
            },
        )
        return await cursor.fetchall()


async def book_retries(conn: Connection, retries: Sequence[Retry]) -> list[UUID]:
    """Delay mails that are still ours, note the attempts, and return their ids.

    Those that wait for the server are due at its next recovery.
    """
    return await _delay(conn, retries, tried=True)


async def hold_jobs(conn: Connection, held: Sequence[Retry], *, since: int | None = None) -> list[UUID]:
    """Delay mails that are still ours and were not tried, so that no attempt counts, and return their ids.

    Args:
        conn: writes.
        held: what is held.
        since: the number of the last recovery when it was decided to hold them: the next one makes them due, even if
            that has come meanwhile.
    """
    return await _delay(conn, held, tried=False, since=since)


async def _delay(
    conn: Connection, retries: Sequence[Retry], *, tried: bool, since: int | None = None
) -> list[UUID]:
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(
            f"""
            WITH booked AS (
                UPDATE mails m
                   SET state = 'delayed', due_at = now() + b.after, lease = NULL, changed_at = now(),
                       reason = b.reason, reply = b.reply, refused = m.refused OR b.refused,
                       waits = CASE WHEN b.waits
                                    THEN coalesce(%(since)s, (SELECT recovered FROM mail_breaker)) END,
                       attempts = CASE WHEN %(tried)s THEN m.attempts ELSE m.attempts - 1 END
                  FROM unnest(%(ids)s::uuid[], %(leases)s::uuid[], %(afters)s::interval[], %(reasons)s::text[],
                              %(replies)s::text[], %(stages)s::text[], %(waits)s::boolean[], %(refused)s::boolean[])
                       AS b (id, lease, after, reason, reply, stage, waits, refused)
                 WHERE m.id = ANY(ARRAY({LEASED} FOR UPDATE OF m)) AND m.id = b.id AND m.lease = b.lease
                RETURNING m.id, m.attempts, m.state, b.stage, m.reason, m.reply,
                          %(tried)s::boolean AND NOT m.follows AS tried
            ), {_NOTED})
            SELECT id FROM booked
            """,  # noqa: S608 - a constant of this module
            {
                "ids": [r.job.id for r in retries],
                "leases": [r.job.lease for r in retries],
                "afters": [r.after for r in retries],
                "reasons": [r.reason for r in retries],
                "replies": [r.reply for r in retries],
                "stages": [r.stage for r in retries],
                "waits": [not tried or r.waits for r in retries],
                "refused": [tried and r.refused for r in retries],
                "tried": tried,
                "since": since,
            },
        )
        return await cursor.fetchall()


async def book_held(conn: Connection, held: Sequence[Held]) -> list[UUID]:
    """Let mails that are still ours wait for their turn, no attempt counted, and return their ids.

    Those of their address that waited already are cancelled: the newest that waits is the one that is sent.
    """
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(
            f"""
            UPDATE mails m
               SET state = 'delayed', due_at = b.until, lease = NULL, changed_at = now(), silent = true,
                   attempts = m.attempts - 1, reason = 'held_back', reply = NULL
              FROM unnest(%(ids)s::uuid[], %(leases)s::uuid[], %(untils)s::timestamptz[]) AS b (id, lease, until)
             WHERE m.id = ANY(ARRAY({LEASED} FOR UPDATE OF m)) AND m.id = b.id AND m.lease = b.lease
            RETURNING m.id
            """,  # noqa: S608 - a constant
            {
                "ids": [h.job.id for h in held],
                "leases": [h.job.lease for h in held],
                "untils": [h.until for h in held],
            },
        )
        booked = await cursor.fetchall()
    # One address at a time: what waits elsewhere is not looked at. What has no registration keeps to a schedule of its
    # own kind.
    await conn.execute(
        """
        WITH addresses AS (
            SELECT DISTINCT coalesce(r.email_key, m.email_key) AS email_key
              FROM mails m LEFT JOIN registrations r ON r.id = m.registration_id
             WHERE m.id = ANY(%(ids)s)
        ), waiting AS (
            SELECT m.id, row_number() OVER (
                       PARTITION BY a.email_key, m.kind_alone ORDER BY m.created_at DESC, m.id) AS place
              FROM addresses a CROSS JOIN LATERAL (
                  SELECT w.id, w.created_at, NULL AS kind_alone
                    FROM registrations r JOIN mails w ON w.registration_id = r.id
                   WHERE r.email_key = a.email_key AND r.state NOT IN ('confirmed', 'expired', 'repudiated')
                     AND w.silent AND w.state = 'delayed'
                   UNION ALL
                  SELECT w.id, w.created_at, w.kind
                    FROM mails w
                   WHERE w.email_key = a.email_key AND w.registration_id IS NULL
                     AND w.silent AND w.state = 'delayed') AS m
        )
        UPDATE mails m
           SET state = 'cancelled', due_at = NULL, reason = 'coalesced', changed_at = now()
         WHERE m.id = ANY(ARRAY(
                   SELECT m.id FROM mails m JOIN waiting USING (id)
                    WHERE waiting.place > 1 ORDER BY m.id FOR UPDATE OF m))
           AND m.state = 'delayed'
        """,
        {"ids": booked},
    )
    return booked


async def book_ended(conn: Connection, ended: Sequence[Ended]) -> list[UUID]:
    """End mails that are still ours without sending them, note the attempts that were made, and return their ids."""
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(
            f"""
            WITH booked AS (
                UPDATE mails m
                   SET state = b.state, due_at = NULL, lease = NULL, changed_at = now(),
                       reason = b.reason, reply = b.reply,
                       attempts = CASE WHEN b.tried THEN m.attempts ELSE m.attempts - 1 END,
                       foreign_token = CASE b.state WHEN 'dead' THEN m.foreign_token END  -- it may be replayed
                  FROM unnest(%(ids)s::uuid[], %(leases)s::uuid[], %(states)s::text[], %(reasons)s::text[],
                              %(replies)s::text[], %(stages)s::text[], %(tried)s::boolean[])
                       AS b (id, lease, state, reason, reply, stage, tried)
                 WHERE m.id = ANY(ARRAY({LEASED} FOR UPDATE OF m)) AND m.id = b.id AND m.lease = b.lease
                RETURNING m.id, m.attempts, m.state, b.stage, m.reason, m.reply, b.tried
            ), {_NOTED})
            SELECT id FROM booked
            """,  # noqa: S608 - constants
            {
                "ids": [e.job.id for e in ended],
                "leases": [e.job.lease for e in ended],
                "states": [e.state for e in ended],
                "reasons": [e.reason for e in ended],
                "replies": [e.reply for e in ended],
                "stages": [e.stage for e in ended],
                "tried": [e.tried and e.state != "cancelled" for e in ended],
            },
        )
        return await cursor.fetchall()
