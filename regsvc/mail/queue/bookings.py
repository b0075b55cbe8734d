"""Booking the outcome of a job: sent, to be retried, waiting for its turn, or ended.

Only the lease holder may write, except for an acceptance: a message that the server accepted is sent, even if another
worker has claimed it since. All functions take the caller's connection; none commits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from psycopg.rows import scalar_row

from regsvc.jobs.leases import ids_of, update_leased
from regsvc.mail.outcome import Stage
from regsvc.mail.queue.coalescing import coalesce_waiting
from regsvc.mail.queue.jobs import MAIL_JOBS, Job, SentAs
from regsvc.mail.queue.verdict import EARLY, waits_for_server
from regsvc.mail.reports.report import Kind, Reason
from regsvc.postgres.connection import Connection

Ending = Literal["bounced", "cancelled", "dead"]


# Failed attempts are recorded in the statement that books them. Accepted ones are in the message's row: one row more
# for every message would be the most expensive part of booking it.
def _note(booking: bytes) -> bytes:
    return (
        b"WITH booked AS ("
        + booking
        + b"""), noted AS (
            INSERT INTO mail_attempts (mail_id, attempt, outcome, stage, reason, reply, route)
            SELECT id, attempts, state, stage, reason, reply, by_route FROM booked WHERE tried)
        SELECT id FROM booked"""
    )


_DELAYED = _note(
    update_leased(
        MAIL_JOBS,
        """
    state = 'delayed', due_at = now() + b.after, reason = b.reason, reply = b.reply, refused = j.refused OR b.refused,
    waits = CASE WHEN b.waits THEN coalesce(%(since)s, (SELECT recovered FROM mail_breaker)) END,
    attempts = CASE WHEN %(tried)s THEN j.attempts ELSE j.attempts - 1 END,
    route = CASE WHEN b.ambiguous THEN b.route ELSE j.route END,
    ambiguous_at = CASE WHEN b.ambiguous AND j.route IS DISTINCT FROM b.route THEN now()
                        WHEN b.ambiguous THEN coalesce(j.ambiguous_at, now()) ELSE j.ambiguous_at END
    """,
        {
            "after": "interval",
            "reason": "text",
            "reply": "text",
            "stage": "text",
            "waits": "boolean",
            "refused": "boolean",
            "route": "text",
            "ambiguous": "boolean",
        },
        returned="""
        j.id, j.attempts, j.state, b.stage, j.reason, j.reply, b.route AS by_route,
        %(tried)s::boolean AND NOT j.follows AS tried""",
    )
)
_HELD = update_leased(
    MAIL_JOBS,
    """
    state = 'delayed', due_at = b.until, silent = true, attempts = j.attempts - 1, reply = NULL,
    reason = CASE WHEN b.suppressed THEN 'suppressed' ELSE 'held_back' END
    """,
    {"until": "timestamptz", "suppressed": "boolean"},
)
_ENDED = _note(
    update_leased(
        MAIL_JOBS,
        """
    state = b.state, due_at = NULL, reason = b.reason, reply = b.reply,
    attempts = CASE WHEN b.tried THEN j.attempts ELSE j.attempts - 1 END,
    foreign_token = CASE b.state WHEN 'dead' THEN j.foreign_token END  -- it may be replayed
    """,
        {
            "state": "text",
            "reason": "text",
            "reply": "text",
            "stage": "text",
            "tried": "boolean",
            "route": "text",
        },
        returned="j.id, j.attempts, j.state, b.stage, j.reason, j.reply, b.tried, b.route AS by_route",
    )
)


@dataclass(frozen=True)
class Sent:
    """The server accepted the message, by this route, under this id of the provider."""

    job: Job
    reply: str
    route: str = ""
    provider_id: str | None = None


@dataclass(frozen=True)
class Retry:
    """The message is to be retried, at the latest after `after`.

    Args:
        job: the claimed job.
        after: time until the next attempt.
        reason: of the delay.
        reply: reply of the server.
        stage: stage of the reply; None without an attempt.
        alike: others were refused in the same words, so it waits for the server like them.
        route: the route that was tried last, if there are several.
        ambiguous: it may have been accepted there.
    """

    job: Job
    after: timedelta
    reason: str
    reply: str = ""
    stage: Stage | None = None
    alike: bool = False
    route: str = ""
    ambiguous: bool = False

    @property
    def waits(self) -> bool:
        """Return whether it is due as soon as the server recovers."""
        return self.alike or waits_for_server(self.reason, self.stage)

    @property
    def refused(self) -> bool:
        """Return whether a recipient-stage refusal makes it the last choice for a probe."""
        return self.stage is not None and self.stage not in EARLY


@dataclass(frozen=True)
class Held:
    """The message waits for its address's turn, invisibly to clients.

    Args:
        job: the claimed job.
        until: time of its turn.
        leader: message that has the turn, if known.
        bounce: kind and reason that its attempt will show, if its address is suppressed after a bounce.
        suppressed: its address is suppressed, so its attempt follows no other message.
    """

    job: Job
    until: datetime
    leader: UUID | None = None
    bounce: tuple[Kind, Reason] | None = None
    suppressed: bool = False


@dataclass(frozen=True)
class Ended:
    """The message will not be sent; `tried` if an attempt decided that, which never cancels."""

    job: Job
    state: Ending
    reason: str
    reply: str = ""
    stage: Stage | None = None
    tried: bool = True
    route: str = ""


async def book_sent(conn: Connection, sent: Sequence[tuple[Sent, SentAs]]) -> list[UUID]:
    """Book accepted messages, and return the ids of those not booked before.

    The lease is not checked: the server has the message, and another worker that has claimed it must not send it again.
    """
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(
            """
            UPDATE mails m
               SET state = 'sent', sent_at = now(), changed_at = now(), due_at = NULL, lease = NULL,
                   published_at = NULL, reason = NULL, reply = b.reply, sent_as = b.sent_as,
                   foreign_token = NULL, route = b.route, provider_id = b.provider_id
              FROM unnest(%(ids)s::uuid[], %(replies)s::text[], %(sent_as)s::text[], %(routes)s::text[],
                          %(provider_ids)s::text[]) AS b (id, reply, sent_as, route, provider_id)
             WHERE m.id = ANY(ARRAY(SELECT id FROM mails WHERE id = ANY(%(ids)s) ORDER BY id FOR UPDATE))
               AND m.id = b.id AND m.state IN ('queued', 'sending', 'delayed')
            RETURNING m.id
            """,
            {
                "ids": [booking.job.id for booking, _ in sent],
                "replies": [booking.reply for booking, _ in sent],
                "sent_as": [sent_as for _, sent_as in sent],
                "routes": [booking.route or None for booking, _ in sent],
                "provider_ids": [booking.provider_id for booking, _ in sent],
            },
        )
        return await cursor.fetchall()


async def book_retries(conn: Connection, retries: Sequence[Retry]) -> list[UUID]:
    """Delay messages whose leases are held, record the attempts, and return the ids.

    Those that wait for the server are due at its next recovery.
    """
    return await _delay(conn, retries, tried=True)


async def hold_jobs(conn: Connection, held: Sequence[Retry], *, since: int | None = None) -> list[UUID]:
    """Delay messages whose leases are held without counting an attempt, and return the ids.

    Args:
        conn: connection to write with.
        held: jobs with their delays.
        since: number of the last recovery at the time of the decision. The next one makes them due, even if it
            has already happened.
    """
    return await _delay(conn, held, tried=False, since=since)


async def _delay(
    conn: Connection, retries: Sequence[Retry], *, tried: bool, since: int | None = None
) -> list[UUID]:
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(
            _DELAYED,
            {
                **ids_of([r.job for r in retries]),
                "after": [r.after for r in retries],
                "reason": [r.reason for r in retries],
                "reply": [r.reply for r in retries],
                "stage": [r.stage for r in retries],
                "waits": [not tried or r.waits for r in retries],
                "refused": [tried and r.refused for r in retries],
                "route": [r.route or None for r in retries],
                "ambiguous": [tried and r.ambiguous and bool(r.route) for r in retries],
                "tried": tried,
                "since": since,
            },
        )
        return await cursor.fetchall()


async def book_held(conn: Connection, held: Sequence[Held]) -> list[UUID]:
    """Make messages whose leases are held wait for their turn without counting an attempt, and return the ids.

    Earlier waiting messages of their address are cancelled: only the newest one is sent.
    """
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(
            _HELD,
            {
                **ids_of([h.job for h in held]),
                "until": [h.until for h in held],
                "suppressed": [h.suppressed for h in held],
            },
        )
        booked = await cursor.fetchall()
    await coalesce_waiting(conn, booked)
    return booked


async def book_ended(conn: Connection, ended: Sequence[Ended]) -> list[UUID]:
    """End messages whose leases are held without sending them, record their attempts, and return the ids."""
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(
            _ENDED,
            {
                **ids_of([e.job for e in ended]),
                "state": [e.state for e in ended],
                "reason": [e.reason for e in ended],
                "reply": [e.reply for e in ended],
                "stage": [e.stage for e in ended],
                "tried": [e.tried and e.state != "cancelled" for e in ended],
                "route": [e.route or None for e in ended],
            },
        )
        return await cursor.fetchall()
