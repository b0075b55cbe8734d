"""The mail job: a state machine whose every state stands in one row of `mails`.

    queued ──claim──▶ sending ──▶ sent
      ▲                 │  ├────▶ bounced      the server says never
      │ relay           │  ├────▶ dead         given up after 48 h
      │                 │  └────▶ cancelled    not wanted any more
      └── delayed ◀─────┘

`due_at` is the job's one clock, and always the database's: what is open and due in the past may be taken up by
anyone. That single rule is the relay's work list, the local mailer's, and the recovery from every crash: a lease
that ran out, a message that never came back, a delay that is over. All functions take the caller's connection;
none commits.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID, uuid4

from psycopg.rows import class_row, scalar_row

from regsvc.mail.outcome import Stage
from regsvc.postgres.connection import Connection

LEASE = timedelta(seconds=45)
RENEW_EVERY = timedelta(seconds=15)
PUBLISHING = timedelta(seconds=20)  # that a relay has for publishing what it took
UNCLAIMED = timedelta(minutes=5)  # after which a published message counts as lost
BROKER_MISSED = timedelta(seconds=10)  # after which mails are taken past the broker
GIVE_UP = timedelta(hours=48)
DUE_CHANNEL = "mail_due"

SentAs = Literal["confirm", "account_exists", "foreign_confirm"]
Ending = Literal["bounced", "cancelled", "dead"]

# Failed attempts are noted in the statement that books them; what was cancelled unsent was none. The accepted one is
# not: it stands in the mail's row, and a row more for every mail would be the dearest part of booking it.
_NOTED = """noted AS (
                INSERT INTO mail_attempts (mail_id, attempt, outcome, stage, reason, reply)
                SELECT id, attempts, state, stage, reason, reply FROM booked WHERE state <> 'cancelled'"""

_DELAYS = (5.0, 30.0, 120.0, 600.0, 1800.0, 3600.0)
_JITTER = 0.2


def retry_delay(attempt: int, *, rng: random.Random | None = None) -> timedelta:
    """Return how long to wait after a failed attempt.

    5 s, 30 s, 2 min, 10 min, 30 min, then 1 h each time, all ± 20 % so that what failed together does not come
    back together: attempt 1 waits 4 to 6 s, attempt 4 8 to 12 min, attempt 40 48 to 72 min.

    Args:
        attempt: how many attempts there were, from 1.
        rng: where the jitter comes from.
    """
    base = _DELAYS[min(max(attempt, 1), len(_DELAYS)) - 1]
    return timedelta(seconds=base * (rng or random).uniform(1 - _JITTER, 1 + _JITTER))


@dataclass(frozen=True)
class Job:
    """A mail that is ours to send until the lease runs out.

    Args:
        id: the mail.
        registration_id: whom it is for; None while nobody has decided that.
        lease: proves to the row that it is still ours.
        attempts: this one included.
        given_up: the mail is older than anybody waits (`GIVE_UP`): this attempt is the last.
    """

    id: UUID
    registration_id: UUID | None
    lease: UUID
    attempts: int
    given_up: bool


@dataclass(frozen=True)
class Sent:
    """The server accepted the mail."""

    job: Job
    reply: str


@dataclass(frozen=True)
class Retry:
    """The mail is to be tried again."""

    job: Job
    after: timedelta
    reason: str
    reply: str = ""
    stage: Stage | None = None


@dataclass(frozen=True)
class Held:
    """The mail waits for its address's turn, and nobody is shown that it does."""

    job: Job
    until: datetime


@dataclass(frozen=True)
class Ended:
    """The mail will not be sent."""

    job: Job
    state: Ending
    reason: str
    reply: str = ""
    stage: Stage | None = None


async def add_job(conn: Connection, mail_id: UUID, registration_id: UUID) -> None:
    """Insert the mail of a registration, due now, in the caller's transaction, and wake whoever sends."""
    await conn.execute(
        """
        WITH added AS (
            INSERT INTO mails (id, registration_id, kind) VALUES (%(id)s, %(registration_id)s, 'signup')
        )
        SELECT pg_notify(%(channel)s, '')
        """,
        {"id": mail_id, "registration_id": registration_id, "channel": DUE_CHANNEL},
    )


async def add_resend(conn: Connection, mail_id: UUID, email_key: str, *, wanted: UUID | None) -> None:
    """Insert a mail that was asked for by address; whose it is, if anybody's, is decided when it is taken in hand.

    `wanted` is the registration whose handle was shown, if one was.
    """
    await conn.execute(
        """
        WITH added AS (
            INSERT INTO mails (id, kind, email_key, wanted)
            VALUES (%(id)s, 'resend', %(email_key)s, %(wanted)s)
        )
        SELECT pg_notify(%(channel)s, '')
        """,
        {"id": mail_id, "email_key": email_key, "wanted": wanted, "channel": DUE_CHANNEL},
    )


async def take_for_publishing(conn: Connection, limit: int) -> list[UUID]:
    """Take due mails for the broker; whoever dies before `note_published` loses them for 20 s only."""
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(
            """
            UPDATE mails
               SET state = 'queued', lease = NULL, due_at = now() + %(publishing)s, changed_at = now()
             WHERE id IN (SELECT id FROM mails
                           WHERE state IN ('queued', 'sending', 'delayed') AND due_at <= now()
                           ORDER BY due_at LIMIT %(limit)s
                             FOR UPDATE SKIP LOCKED)
            RETURNING id
            """,
            {"publishing": PUBLISHING, "limit": limit},
        )
        return await cursor.fetchall()


async def note_published(conn: Connection, mail_ids: Sequence[UUID]) -> None:
    """Note that the broker has these mails; unclaimed, they are due again after 5 minutes.

    A mail that is locked is being claimed: there is nothing left to note.
    """
    await conn.execute(
        """
        UPDATE mails SET published_at = now(), due_at = now() + %(unclaimed)s
         WHERE id IN (SELECT id FROM mails WHERE id = ANY(%(ids)s) AND state = 'queued' FOR UPDATE SKIP LOCKED)
        """,
        {"ids": list(mail_ids), "unclaimed": UNCLAIMED},
    )


async def release_unpublished(conn: Connection, mail_ids: Sequence[UUID]) -> None:
    """Give mails that could not be published to whoever needs no broker, at once."""
    await conn.execute(
        "UPDATE mails SET due_at = now() - %(missed)s WHERE id = ANY(%(ids)s) AND state = 'queued'",
        {"ids": list(mail_ids), "missed": BROKER_MISSED},
    )


async def release_published(conn: Connection, *, unclaimed_for: timedelta = timedelta(0)) -> int:
    """Make due what the broker was given and nobody claimed since: its queue is empty, or it is gone.

    Nobody must have claimed it for `unclaimed_for`. Returns how many mails that are.
    """
    cursor = await conn.execute(
        """
        UPDATE mails SET due_at = now() - %(missed)s, published_at = NULL
         WHERE id IN (SELECT id FROM mails
                       WHERE state = 'queued' AND due_at > now() AND published_at <= now() - %(unclaimed_for)s
                         FOR UPDATE SKIP LOCKED)
        """,
        {"missed": BROKER_MISSED, "unclaimed_for": unclaimed_for},
    )
    return cursor.rowcount


async def claim_mails(conn: Connection, mail_ids: Sequence[UUID]) -> list[Job]:
    """Claim those of the mails that wait to be sent; the others are sent, in hand elsewhere, or not due yet.

    A mail that is locked is waited for: its message mostly comes while the relay still notes that it is published,
    and no other message will. Ids are locked in order, so that two who wait never wait for each other.
    """
    due = "id = ANY(%(ids)s) AND (state = 'queued' OR due_at <= now())"
    return await _claim(conn, due, order="id", lock="FOR UPDATE", ids=list(mail_ids))


async def claim_due(conn: Connection, limit: int, *, overdue: timedelta = timedelta(0)) -> list[Job]:
    """Claim mails that have been due for at least `overdue`, the oldest first."""
    return await _claim(conn, "due_at <= now() - %(overdue)s", overdue=overdue, limit=limit)


async def claim_waiting(conn: Connection, reasons: Collection[str], *, beyond: timedelta) -> list[Job]:
    """Claim the one mail that was touched longest ago of those that are due, or delayed for these reasons.

    Args:
        conn: writes.
        reasons: of delays that need not be over.
        beyond: a delay that is over in less than this is left to end by itself.
    """
    delayed = "state = 'delayed' AND due_at > now() + %(beyond)s AND reason = ANY(%(reasons)s)"
    which = f"lease IS NULL AND (due_at <= now() OR {delayed})"
    return await _claim(conn, which, order="changed_at", limit=1, beyond=beyond, reasons=list(reasons))


async def _claim(
    conn: Connection,
    which: str,
    *,
    order: str = "due_at",
    lock: str = "FOR UPDATE SKIP LOCKED",
    limit: int | None = None,
    **params: object,
) -> list[Job]:
    async with conn.cursor(row_factory=class_row(Job)) as cursor:
        await cursor.execute(
            f"""
            UPDATE mails
               SET state = 'sending', lease = %(lease)s, due_at = now() + %(life)s,
                   attempts = attempts + 1, published_at = NULL, changed_at = now()
             WHERE id IN (SELECT id FROM mails
                           WHERE state IN ('queued', 'sending', 'delayed') AND {which}
                           ORDER BY {order} LIMIT %(limit)s
                             {lock})
            RETURNING id, registration_id, lease, attempts,
                      greatest(created_at, replayed_at) <= now() - %(give_up)s AS given_up
            """,  # noqa: S608 - all three are literals above
            {"lease": uuid4(), "life": LEASE, "give_up": GIVE_UP, "limit": limit, **params},
        )
        return await cursor.fetchall()


async def renew_leases(conn: Connection, jobs: Sequence[Job]) -> set[UUID]:
    """Renew the leases of these jobs and return the ids of those that are still ours."""
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(
            """
            UPDATE mails m SET due_at = now() + %(life)s
              FROM unnest(%(ids)s::uuid[], %(leases)s::uuid[]) AS held (id, lease)
             WHERE m.id = held.id AND m.lease = held.lease
            RETURNING m.id
            """,
            {"life": LEASE, "ids": [job.id for job in jobs], "leases": [job.lease for job in jobs]},
        )
        return set(await cursor.fetchall())


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
             WHERE m.id = b.id AND m.state IN ('queued', 'sending', 'delayed')
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
    """Delay mails that are still ours, note the attempts, and return their ids."""
    return await _delay(conn, retries, tried=True)


async def hold_jobs(conn: Connection, held: Sequence[Retry]) -> list[UUID]:
    """Delay mails that are still ours and were not tried, so that no attempt counts, and return their ids."""
    return await _delay(conn, held, tried=False)


async def _delay(conn: Connection, retries: Sequence[Retry], *, tried: bool) -> list[UUID]:
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(
            f"""
            WITH booked AS (
                UPDATE mails m
                   SET state = 'delayed', due_at = now() + b.after, lease = NULL, changed_at = now(),
                       reason = b.reason, reply = b.reply,
                       attempts = CASE WHEN %(tried)s THEN m.attempts ELSE m.attempts - 1 END
                  FROM unnest(%(ids)s::uuid[], %(leases)s::uuid[], %(afters)s::interval[], %(reasons)s::text[],
                              %(replies)s::text[], %(stages)s::text[])
                       AS b (id, lease, after, reason, reply, stage)
                 WHERE m.id = b.id AND m.lease = b.lease
                RETURNING m.id, m.attempts, m.state, b.stage, m.reason, m.reply
            ), {_NOTED} AND %(tried)s)
            SELECT id FROM booked
            """,  # noqa: S608 - a constant of this module
            {
                "ids": [r.job.id for r in retries],
                "leases": [r.job.lease for r in retries],
                "afters": [r.after for r in retries],
                "reasons": [r.reason for r in retries],
                "replies": [r.reply for r in retries],
                "stages": [r.stage for r in retries],
                "tried": tried,
            },
        )
        return await cursor.fetchall()


async def book_held(conn: Connection, held: Sequence[Held]) -> list[UUID]:
    """Let mails that are still ours wait for their turn, no attempt counted, and return their ids.

    Those of their address that waited already are cancelled: the newest that waits is the one that is sent.
    """
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(
            """
            UPDATE mails m
               SET state = 'delayed', due_at = b.until, lease = NULL, changed_at = now(), silent = true,
                   attempts = m.attempts - 1, reason = 'held_back', reply = NULL
              FROM unnest(%(ids)s::uuid[], %(leases)s::uuid[], %(untils)s::timestamptz[]) AS b (id, lease, until)
             WHERE m.id = b.id AND m.lease = b.lease
            RETURNING m.id
            """,
            {
                "ids": [h.job.id for h in held],
                "leases": [h.job.lease for h in held],
                "untils": [h.until for h in held],
            },
        )
        booked = await cursor.fetchall()
    await conn.execute(
        """
        WITH waiting AS (
            SELECT m.id, row_number() OVER (PARTITION BY r.email_key ORDER BY m.created_at DESC, m.id) AS place
              FROM mails m
              JOIN registrations r ON r.id = m.registration_id
             WHERE m.silent AND m.state = 'delayed'
               AND r.email_key IN (SELECT r.email_key
                                     FROM mails m JOIN registrations r ON r.id = m.registration_id
                                    WHERE m.id = ANY(%(ids)s))
        )
        UPDATE mails m
           SET state = 'cancelled', due_at = NULL, reason = 'coalesced', changed_at = now()
          FROM waiting
         WHERE m.id = waiting.id AND waiting.place > 1
        """,
        {"ids": booked},
    )
    return booked


async def book_ended(conn: Connection, ended: Sequence[Ended]) -> list[UUID]:
    """End mails that are still ours without sending them, note the attempts, and return their ids."""
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(
            f"""
            WITH booked AS (
                UPDATE mails m
                   SET state = b.state, due_at = NULL, lease = NULL, changed_at = now(),
                       reason = b.reason, reply = b.reply,
                       foreign_token = CASE b.state WHEN 'dead' THEN m.foreign_token END  -- it may be replayed
                  FROM unnest(%(ids)s::uuid[], %(leases)s::uuid[], %(states)s::text[], %(reasons)s::text[],
                              %(replies)s::text[], %(stages)s::text[])
                       AS b (id, lease, state, reason, reply, stage)
                 WHERE m.id = b.id AND m.lease = b.lease
                RETURNING m.id, m.attempts, m.state, b.stage, m.reason, m.reply
            ), {_NOTED})
            SELECT id FROM booked
            """,  # noqa: S608 - a constant of this module
            {
                "ids": [e.job.id for e in ended],
                "leases": [e.job.lease for e in ended],
                "states": [e.state for e in ended],
                "reasons": [e.reason for e in ended],
                "replies": [e.reply for e in ended],
                "stages": [e.stage for e in ended],
            },
        )
        return await cursor.fetchall()


async def release_jobs(conn: Connection, jobs: Sequence[Job], *, admitted: Collection[UUID] = ()) -> None:
    """Give back what was claimed and not tried: due at once, and no attempt counted.

    `admitted` are those that have had their address's turn, which is not asked for again.
    """
    await conn.execute(
        """
        WITH released AS (
            UPDATE mails m
               SET state = 'queued', due_at = now(), lease = NULL, attempts = m.attempts - 1,
                   admitted = m.admitted OR m.id = ANY(%(admitted)s),
                   changed_at = now()
              FROM unnest(%(ids)s::uuid[], %(leases)s::uuid[]) AS held (id, lease)
             WHERE m.id = held.id AND m.lease = held.lease
        )
        SELECT pg_notify(%(channel)s, '')
        """,
        {
            "ids": [job.id for job in jobs],
            "leases": [job.lease for job in jobs],
            "admitted": list(admitted),
            "channel": DUE_CHANNEL,
        },
    )


async def seconds_until_due(conn: Connection) -> float | None:
    """Return the seconds until the next mail is due (0 or less: now), or None when none is open."""
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(
            """
            SELECT extract(epoch FROM min(due_at) - now())::float8
              FROM mails
             WHERE state IN ('queued', 'sending', 'delayed')
            """
        )
        return await cursor.fetchone()
