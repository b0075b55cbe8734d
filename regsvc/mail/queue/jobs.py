"""The mail job: a state machine stored in one row of `mails`.

    queued ──claim──▶ sending ──▶ sent
      ▲                 │  ├────▶ bounced      the server says never
      │ relay           │  ├────▶ dead         given up after 48 h
      │                 │  └────▶ cancelled    no longer wanted
      └── delayed ◀─────┘

Claims, leases and `due_at` are those of every job (`regsvc.jobs.table`). All functions take the caller's connection;
none commits.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal
from uuid import UUID

from regsvc.jobs import claims
from regsvc.jobs.claims import claim_selected
from regsvc.jobs.table import JobTable
from regsvc.postgres.connection import Connection

GIVE_UP = timedelta(hours=48)
DUE_CHANNEL = "mail_due"
_LOOKED_AT = 200  # newest held messages searched for one to another domain

SentAs = Literal[
    "confirm",
    "account_exists",
    "invitation",
    "login_code",
    "no_account",
    "foreign_confirm",
    "password_changed",
    "password_reset",
    "password_reset_done",
    "refresh_token_reused",
    "new_login",
    "security_changed",
    "email_change",
    "email_moving",
    "email_changed",
    "email_undoing",
    "email_taken",
]


@dataclass(frozen=True)
class Job:
    """A message claimed by this process until the lease expires.

    Args:
        id: id of the message.
        registration_id: its registration; None until decided.
        lease: proves the claim to the row.
        attempts: attempts, including this one.
        age: time since the message was requested or replayed.
        follows: whether it was claimed before without having its address's turn.
        route: the way it was sent by when its acceptance remained unknown, if that ever happened.
        unknown_for: time since that first happened.
        dated: time that its header Date shows, the same in every attempt.
        trace: the span of the request for it, as stored; None if that was not traced.
    """

    id: UUID
    registration_id: UUID | None
    lease: UUID
    attempts: int
    age: timedelta
    follows: bool = False
    route: str | None = None
    unknown_for: timedelta | None = None
    dated: datetime | None = None
    trace: bytes | None = None

    @property
    def given_up(self) -> bool:
        """Return whether the message is older than `GIVE_UP`: this attempt is the last."""
        return self.age >= GIVE_UP


MAIL_JOBS: Final = JobTable(
    "mails",
    Job,
    "id, registration_id, lease, attempts, now() - greatest(created_at, replayed_at) AS age, follows,"
    " CASE WHEN ambiguous_at IS NOT NULL THEN route END AS route, now() - ambiguous_at AS unknown_for,"
    " greatest(created_at, replayed_at) AS dated, trace_context AS trace",
    DUE_CHANNEL,
    claimed="waits = NULL, published_at = NULL",
)
"""The mail jobs, as `regsvc.jobs` needs to know them."""


ATTEMPT: Final = "CASE m.kind WHEN 'login' THEN m.wanted ELSE m.registration_id END"
"""The attempt whose state shows what becomes of a message `m`. The mail of a login names it where release 0.2.0, which
would send a confirmation, does not look."""


# Adds a message as part of another statement, once for each row of `{0}`.
ADDED = "INSERT INTO mails (id, registration_id, kind) SELECT %(mail_id)s, %(id)s, 'signup' FROM {0}"


async def add_job(conn: Connection, mail_id: UUID, registration_id: UUID) -> None:
    """Insert the message of a registration, due now, in the caller's transaction, and wake the workers."""
    await conn.execute(
        f"WITH added AS ({ADDED.format('(SELECT) AS one')}) SELECT pg_notify(%(channel)s, '')",
        {"mail_id": mail_id, "id": registration_id, "channel": DUE_CHANNEL},
    )


async def add_resend(
    conn: Connection, mail_id: UUID, email_key: str, *, wanted: UUID | None, insists: bool = False
) -> None:
    """Insert a message requested by address; the sender that claims it decides its registration.

    `wanted` is the registration whose handle the client showed, if any. A message that `insists` is sent in spite of an
    earlier bounce.
    """
    await conn.execute(
        """
        WITH added AS (
            INSERT INTO mails (id, kind, email_key, wanted, insists)
            VALUES (%(id)s, 'resend', %(email_key)s, %(wanted)s, %(insists)s)
        )
        SELECT pg_notify(%(channel)s, '')
        """,
        {"id": mail_id, "email_key": email_key, "wanted": wanted, "insists": insists, "channel": DUE_CHANNEL},
    )


async def claim_mails(conn: Connection, mail_ids: Sequence[UUID]) -> list[Job]:
    """Claim those of the messages that are due; the others are sent, claimed elsewhere, or not yet due."""
    return await claims.claim_ids(conn, MAIL_JOBS, mail_ids)


async def claim_due(conn: Connection, limit: int, *, overdue: timedelta = timedelta(0)) -> list[Job]:
    """Claim messages that have been due for at least `overdue`, oldest first."""
    return await claims.claim_due(conn, MAIL_JOBS, limit, overdue=overdue)


async def claim_released(
    conn: Connection, limit: int, *, recovered: int, closed: int, away: Collection[str]
) -> list[Job]:
    """Claim messages released by a recovery of the server, those never refused first.

    Args:
        conn: connection to write with.
        limit: maximum number of messages.
        recovered: messages waiting since before this recovery for a reason in `away` are due.
        closed: messages waiting since before this recovery for any other reason are due.
        away: reasons that mean the server is unreachable.
    """
    return await claim_selected(
        conn,
        MAIL_JOBS,
        """
        SELECT id FROM {table}
         WHERE state = 'delayed' AND waits IS NOT NULL
           AND waits < CASE WHEN reason = ANY(%(away)s) THEN %(recovered)s ELSE %(closed)s END
         ORDER BY refused, changed_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
        """,
        limit=limit,
        recovered=recovered,
        closed=closed,
        away=list(away),
    )


async def claim_waiting(
    conn: Connection, reasons: Collection[str] | None, *, beyond: timedelta, avoid: Collection[str] = ()
) -> list[Job]:
    """Claim one message to probe the server: of those never refused, the one untouched for longest.

    A message that waits for the server precedes one that is due; one that was refused itself comes last.

    Args:
        conn: connection to write with.
        reasons: reasons of delays that may be cut short; None means all that wait for the server.
        beyond: delays with less time left than this are not cut short.
        avoid: digests of refused domains: one of the newest messages to any other domain comes first.
    """
    waiting = "m.state = 'delayed' AND m.waits IS NOT NULL AND m.due_at > now() + %(beyond)s"
    if reasons is not None:
        waiting += " AND m.reason = ANY(%(reasons)s)"
    elsewhere = f"""
        SELECT newest.id FROM (
            SELECT m.id, coalesce(m.email, r.email) AS email
              FROM mails m LEFT JOIN registrations r ON r.id = m.registration_id
             WHERE {waiting} AND NOT m.refused
             ORDER BY m.refused DESC, m.changed_at DESC LIMIT {_LOOKED_AT}) AS newest
         WHERE left(encode(sha256(convert_to(lower(substring(newest.email FROM '[^@]*$')), 'UTF8')), 'hex'), 16)
               <> ALL(%(avoid)s::text[]) LIMIT 1"""  # noqa: S608 - literals above
    return await claim_selected(
        conn,
        MAIL_JOBS,
        f"""
        SELECT id FROM (
            SELECT id, 0 AS place FROM (
                SELECT m.id FROM mails m WHERE {waiting} AND cardinality(%(avoid)s::text[]) > 0 AND m.id = ({elsewhere})
                   FOR UPDATE SKIP LOCKED) AS elsewhere
            UNION ALL SELECT id, 1 FROM (
                SELECT m.id FROM mails m WHERE {waiting} AND NOT m.refused
                 ORDER BY m.refused, m.changed_at LIMIT 1 FOR UPDATE SKIP LOCKED) AS waiting
            UNION ALL SELECT id, 2 FROM (
                SELECT m.id FROM mails m
                 WHERE m.state IN ('queued', 'delayed') AND m.due_at <= now() AND NOT m.refused
                 ORDER BY m.due_at LIMIT 1 FOR UPDATE SKIP LOCKED) AS due
            UNION ALL SELECT id, 3 FROM (
                SELECT m.id FROM mails m WHERE {waiting} AND m.refused
                 ORDER BY m.refused, m.changed_at LIMIT 1 FOR UPDATE SKIP LOCKED) AS refused
        ) AS probes ORDER BY place LIMIT 1
        """,  # noqa: S608 - literals above
        beyond=beyond,
        reasons=None if reasons is None else list(reasons),
        avoid=list(avoid),
    )
