"""A registration: one sign-up attempt, from the POST to its final state.

Every POST is an independent attempt with its own password; its address is not looked up. What its message says is
decided when a sender claims it (`regsvc.accounts.registrations.mail_status`). Every visible change raises `seq` and
NOTIFYs in the same statement, so waiting clients learn of it once it is committed, not before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from regsvc.accounts.address import Address
from regsvc.accounts.limits import mail_schedule
from regsvc.errors import RegsvcError
from regsvc.mail.queue import jobs
from regsvc.mail.reports.report import Kind
from regsvc.postgres.connection import Connection
from regsvc.postgres.query import (
    BYTEA,
    UUID_TYPE,
    Query,
    or_null,
    read_integer,
    read_text,
    read_timestamp,
    read_uuid,
    write_bytes,
)

State = Literal["queued", "sending", "sent", "delayed", "bounced", "confirmed", "expired", "repudiated"]

STATE_CHANNEL = "registration_state"
FINAL: frozenset[State] = frozenset({"confirmed", "expired", "repudiated"})
UNSENT: frozenset[State] = frozenset({"queued", "sending", "delayed"})
LINK_LIFE = timedelta(hours=24)  # from the time the mail server accepts the message
LOGIN_CODE_LIFE = timedelta(minutes=10)  # likewise, of a code to log in with
UNSENT_LIFE = jobs.GIVE_UP + LINK_LIFE  # of an attempt whose message was never accepted
ATTEMPT_LIFE = timedelta(days=7)  # from the POST, however often its message is sent again
KEEP_FINAL = timedelta(days=30)


def alive(table: str = "registrations") -> str:
    """Return the SQL condition under which links and codes of an attempt work.

    Args:
        table: name or alias of `registrations` in the statement.
    """
    return (
        f"({table}.state NOT IN ('expired', 'repudiated') AND coalesce({table}.expires_at > now(), true)"
        f" AND {table}.created_at > now() - interval '{ATTEMPT_LIFE.days} days')"
    )


@dataclass(frozen=True)
class NewRegistration:
    """The values of a new sign-up.

    Args:
        id: chosen by the caller, which derives the handle from it.
        mail_id: id of its message.
        email: the normalised address to send to.
        email_key: key of the address.
        name: the user's name; any text.
        locale: language of the message, an RFC 5646 tag.
        password_hash: hash of this attempt's password.
        origin: network prefix of the client.
        client: short name of the client's software.
        password_tag: two bytes that distinguish the password from most others (see `password_tags`).
        terms: version of the terms that the user accepted, if there are any.
        app_data: what the hook before a sign-up adds, for the user.
    """

    id: UUID
    mail_id: UUID
    email: str
    email_key: str
    name: str
    locale: str
    password_hash: str
    origin: str
    client: str
    password_tag: bytes | None = None
    terms: str | None = None
    app_data: object = None  # a `Jsonb`


@dataclass(frozen=True)
class Registration:
    """What a holder of the handle may see."""

    id: UUID
    state: State
    seq: int
    attempts: int
    next_try_at: datetime | None
    reason: str | None
    changed_at: datetime
    expires_at: datetime | None
    delivered_at: datetime | None
    bounce_kind: Kind | None


VISIBLE = "id, state, seq, attempts, next_try_at, reason, changed_at, expires_at, delivered_at, bounce_kind"
READERS = [
    read_uuid,
    read_text,
    *[read_integer] * 2,
    or_null(read_timestamp),
    or_null(read_text),
    read_timestamp,
    *[or_null(read_timestamp)] * 2,
    or_null(read_text),
]
_ALONE = Query(f"SELECT {VISIBLE} FROM registrations WHERE id = $1", [UUID_TYPE], READERS)  # noqa: S608 - a constant
_WITH_TURN = Query(
    f"SELECT {VISIBLE}, ({mail_schedule.NEXT_TURN} = $2) FROM registrations WHERE id = $1",  # noqa: S608 - constants
    [UUID_TYPE, BYTEA],
    [*READERS, or_null(read_timestamp)],
)


# Inserts an attempt and its message as part of another statement, once for each row of `{0}`.
_ADDED = f"""
    registered AS (
        INSERT INTO registrations (id, email, email_key, name, locale, password_hash, password_tag, origin, client,
                                   terms, app_data)
        SELECT %(id)s, %(email)s, %(email_key)s, %(name)s, %(locale)s, %(password_hash)s, %(password_tag)s,
               %(origin)s, %(client)s, %(terms)s, %(app_data)s
          FROM {{0}}
    ), mailed AS ({jobs.ADDED})
"""  # noqa: S608 - constants


async def add_registration(conn: Connection, new: NewRegistration) -> None:
    """Insert an attempt and its message in one statement, and wake the workers."""
    await conn.execute(
        f"WITH {_ADDED.format('(SELECT) AS one')} SELECT pg_notify(%(channel)s, '')",
        vars(new) | {"channel": jobs.DUE_CHANNEL},
    )


async def add_first(
    conn: Connection,
    new: NewRegistration,
    *,
    claimed: str,
    values: Mapping[str, object],
    turns: Sequence[bytes],
) -> bool:
    """Insert an attempt, its message and its turns unless the same request came before, all in one statement.

    Args:
        conn: for the statement, which is a transaction by itself.
        new: the attempt.
        claimed: `CLAIMED_ONCE` or `CLAIMED_REPEAT`, by which the request is known.
        values: its values, with the attempt as subject.
        turns: mail schedules that count it.

    Returns:
        Whether it was inserted. If not, nothing was written.
    """
    cursor = await conn.execute(
        f"""
        WITH claimed AS ({claimed}), first AS (SELECT FROM claimed WHERE subject = %(subject)s),
             {_ADDED.format("first")}, turned AS ({mail_schedule.TAKEN.format("first")})
        SELECT pg_notify(%(channel)s, '') FROM first
        """,  # noqa: S608 - constants
        {**vars(new), **values, "keys": list(turns), "channel": jobs.DUE_CHANNEL},
    )
    return cursor.rowcount > 0


async def list_seqs(conn: Connection, registration_ids: Sequence[UUID]) -> dict[UUID, int]:
    """Return the change number (`seq`) of each of these attempts; deleted ones are missing."""
    cursor = await conn.execute(
        "SELECT id, seq FROM registrations WHERE id = ANY(%(ids)s)", {"ids": list(registration_ids)}
    )
    return dict(await cursor.fetchall())


async def waits_at(conn: Connection, registration_id: UUID, email_key: str) -> bool:
    """Return whether an attempt still waits for confirmation at this address."""
    cursor = await conn.execute(
        f"""
        SELECT FROM registrations
         WHERE id = %(id)s AND email_key = %(email_key)s AND state <> 'confirmed' AND {alive()}
        """,
        {"id": registration_id, "email_key": email_key},
    )
    return cursor.rowcount > 0


async def get_registration(conn: Connection, registration_id: UUID) -> Registration | None:
    """Return the visible state of an attempt, or None if no attempt has this id."""
    rows = await _ALONE.execute(conn, str(registration_id).encode())
    return Registration(*rows[0]) if rows else None


async def get_with_turn(
    conn: Connection, registration_id: UUID, schedule: bytes
) -> tuple[Registration, datetime | None] | None:
    """Return the same with the time of the next turn on its mail schedule, if that has one."""
    rows = await _WITH_TURN.execute(conn, str(registration_id).encode(), write_bytes(schedule))
    return (Registration(*rows[0][:-1]), rows[0][-1]) if rows else None


class RegistrationNotFoundError(RegsvcError):
    """There is no such registration, or the handle does not belong to it."""

    code = "registration_not_found"


class RegistrationOverError(RegsvcError):
    """This registration is over: confirmed, expired or voided."""

    code = "registration_over"


async def change_address(conn: Connection, registration_id: UUID, address: Address, mail_id: UUID) -> None:
    """Change the address of an attempt; links and codes mailed to the old address stop working.

    Raises:
        RegistrationOverError: the registration is in a final state or has expired.
    """
    # Lock the message before its registration, as senders do; the reverse order could deadlock.
    await conn.execute(
        "SELECT FROM mails WHERE registration_id = %(id)s ORDER BY id FOR UPDATE", {"id": registration_id}
    )
    cursor = await conn.execute(
        f"""
        WITH moved AS (
            UPDATE registrations
               SET email = %(email)s, email_key = %(email_key)s, state = 'queued', seq = seq + 1, attempts = 0,
                   expires_at = NULL, next_try_at = NULL, reason = NULL, changed_at = now(),
                   delivered_at = NULL, bounce_kind = NULL,
                   address_since = now()
             WHERE id = %(id)s AND login_key IS NULL AND state <> 'confirmed' AND {alive()}
            RETURNING id, seq
        ), cancelled AS (
            UPDATE mails SET state = 'cancelled', due_at = NULL, lease = NULL, reason = 'address_changed'
             WHERE registration_id = (SELECT id FROM moved) AND state IN ('queued', 'sending', 'delayed')
        )
        SELECT pg_notify(%(channel)s, id || ':' || seq) FROM moved
        """,  # noqa: S608 - a constant of this module
        {"id": registration_id, "email": address.email, "email_key": address.key, "channel": STATE_CHANNEL},
    )
    if cursor.rowcount == 0:
        raise RegistrationOverError
    await jobs.add_job(conn, mail_id, registration_id)


async def expire_registrations(conn: Connection, limit: int) -> int:
    """Expire attempts whose time is over, delete their password hashes, and return the count."""
    cursor = await conn.execute(
        """
        WITH sent AS (
            SELECT id FROM registrations
             WHERE state NOT IN ('confirmed', 'expired', 'repudiated') AND expires_at <= now()
             ORDER BY expires_at LIMIT %(limit)s
               FOR UPDATE SKIP LOCKED
        ), unsent AS (
            SELECT id FROM registrations
             WHERE state NOT IN ('confirmed', 'expired', 'repudiated') AND expires_at IS NULL
               AND created_at <= now() - %(unsent_life)s
               AND (address_since <= now() - %(unsent_life)s OR created_at <= now() - %(attempt_life)s)
             ORDER BY created_at LIMIT %(limit)s
               FOR UPDATE SKIP LOCKED
        ), over AS (
            UPDATE registrations r
               SET state = 'expired', seq = r.seq + 1, password_hash = NULL, next_try_at = NULL,
                   changed_at = now()
             WHERE r.id IN (SELECT id FROM sent UNION ALL SELECT id FROM unsent)
            RETURNING r.id, r.seq
        )
        SELECT pg_notify(%(channel)s, id || ':' || seq) FROM over
        """,
        {"unsent_life": UNSENT_LIFE, "attempt_life": ATTEMPT_LIFE, "limit": limit, "channel": STATE_CHANNEL},
    )
    return cursor.rowcount


async def purge_registrations(conn: Connection, limit: int) -> int:
    """Delete attempts that have been over for 30 days, with their messages, and return the count."""
    cursor = await conn.execute(
        """
        DELETE FROM registrations
         WHERE id IN (SELECT id FROM registrations
                       WHERE state IN ('confirmed', 'expired', 'repudiated')
                         AND created_at <= now() - %(keep)s AND changed_at <= now() - %(keep)s
                       ORDER BY created_at LIMIT %(limit)s
                         FOR UPDATE SKIP LOCKED)
        """,
        {"keep": KEEP_FINAL, "limit": limit},
    )
    return cursor.rowcount
