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

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal
from uuid import UUID, uuid4

from psycopg.rows import class_row, scalar_row

from regsvc.postgres.connection import Connection

LEASE = timedelta(seconds=45)
RENEW_EVERY = timedelta(seconds=15)
GIVE_UP = timedelta(hours=48)
DUE_CHANNEL = "mail_due"

SentAs = Literal[
    "confirm",
    "account_exists",
    "foreign_confirm",
    "password_changed",
    "password_reset",
    "password_reset_done",
    "refresh_token_reused",
    "email_change",
    "email_moving",
    "email_changed",
    "email_taken",
]


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
