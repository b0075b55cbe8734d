"""Search and lookup of messages for administrators; `mail_actions` changes them.

Messages are shown with their registration, which `regsvc.mail` does not know. The accepted attempt is in the message's
row; other attempts have their own rows, because nearly every message is accepted at once and needs none. The attempt of
a killed process leaves no record; its number is missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args
from uuid import UUID

from psycopg.rows import class_row

from regsvc.accounts.cursor import Page, Position, after_row, cut_page, rows_to_read
from regsvc.accounts.registrations.registration import State as RegistrationState
from regsvc.errors import RegsvcError
from regsvc.mail.queue.jobs import SentAs
from regsvc.postgres.connection import Connection

State = Literal["queued", "sending", "sent", "delayed", "bounced", "cancelled", "dead"]
Kind = Literal[
    "signup", "resend", "invitation", "login", "foreign", "notice", "security", "forgot", "email_change"
]


class MailNotFoundError(RegsvcError):
    """There is no such message."""

    code = "mail_not_found"


@dataclass(frozen=True)
class OutboxMail:
    """A message and its recipient.

    Args:
        id: id of the message; its Message-ID and code derive from it.
        kind: kind that was requested.
        sent_as: kind that was sent, once accepted.
        state: state of the message; see `regsvc.mail.queue.jobs`.
        attempts: delivery attempts since it was created or last replayed.
        address: recipient; None if the address has changed since and is no longer known.
        registration: id of its registration, once decided.
        registration_state: state that waiting clients see.
        silent: whether its outcome is hidden from waiting clients.
        due_at: when an open message is claimed, or its lease expires.
        reason: why it is not sent, as a stable word.
        reply: last reply of the mail server.
        created_at: when it was requested.
        changed_at: when its state last changed.
        sent_at: when the mail server accepted it.
        replayed_at: when an operator last replayed it.
    """

    id: UUID
    kind: Kind
    sent_as: SentAs | None
    state: State
    attempts: int
    address: str | None
    registration: UUID | None
    registration_state: RegistrationState | None
    silent: bool
    due_at: datetime | None
    reason: str | None
    reply: str | None
    created_at: datetime
    changed_at: datetime
    sent_at: datetime | None
    replayed_at: datetime | None


@dataclass(frozen=True)
class Attempt:
    """A delivery attempt.

    Args:
        attempt: its number, from 1 after creation and after each replay.
        tried_at: when it ended.
        outcome: resulting state of the message.
        stage: stage of the SMTP conversation at which it failed.
        reason: why it failed, as a stable word.
        reply: reply of the mail server.
    """

    attempt: int
    tried_at: datetime
    outcome: Literal["sent", "delayed", "bounced", "dead"]
    stage: str | None
    reason: str | None
    reply: str | None


@dataclass(frozen=True)
class Filters:
    """Filters of the message list; all given ones must match.

    Args:
        state: state of the message.
        kind: kind that was requested.
        email_key: key of the address.
    """

    state: State | None = None
    kind: Kind | None = None
    email_key: str | None = None


_COLUMNS = """
    SELECT m.id, m.kind, m.sent_as, m.state, m.attempts, m.registration_id AS registration,
           r.state AS registration_state, m.silent, m.due_at, m.reason, m.reply, m.created_at, m.changed_at,
           m.sent_at, m.replayed_at,
           nullif(CASE WHEN m.created_at >= r.address_since THEN r.email ELSE coalesce(m.email, m.email_key) END, '')
               AS address
      FROM mails m
      LEFT JOIN registrations r ON r.id = m.registration_id
"""

_CHOSEN = "o.kind = ANY(%(kinds)s) AND o.state = ANY(%(states)s)"
# The newest of each kind and state, then merged: one index serves both filters, alone and together.
_LISTED = """
    SELECT found.id, found.created_at
      FROM unnest(%(kinds)s::text[]) AS k (kind)
     CROSS JOIN unnest(%(states)s::text[]) AS s (state)
     CROSS JOIN LATERAL (
        SELECT id, created_at FROM mails
         WHERE kind = k.kind AND state = s.state AND {before}
         ORDER BY created_at DESC, id DESC LIMIT %(limit)s) AS found
"""
# Messages requested by address, and those of live and of finished registrations: one index each.
_OF_ADDRESS = """
    o.id IN (SELECT o.id FROM mails o WHERE o.email_key = %(email_key)s
              UNION ALL
             SELECT o.id FROM mails o
               JOIN registrations p ON p.id = o.registration_id AND o.created_at >= p.address_since
              WHERE p.email_key = %(email_key)s AND p.state NOT IN ('confirmed', 'expired', 'repudiated')
              UNION ALL
             SELECT o.id FROM mails o
               JOIN registrations p ON p.id = o.registration_id AND o.created_at >= p.address_since
              WHERE p.email_key = %(email_key)s AND p.state IN ('confirmed', 'expired', 'repudiated'))
"""


async def list_mails(
    conn: Connection, filters: Filters, *, after: Position | None, limit: int
) -> Page[OutboxMail]:
    """Return a page of messages, newest first.

    Args:
        conn: connection to read with.
        filters: filters of the list.
        after: position before the page; None for the newest.
        limit: rows, at most `MAX_PAGE`.
    """
    before = "(created_at, id) < (%(created_at)s, %(id)s)" if after else "true"
    if filters.email_key:
        chosen = f"SELECT o.id, o.created_at FROM mails o WHERE {_OF_ADDRESS} AND {_CHOSEN} AND {before}"  # noqa: S608 - constants
    elif filters.kind or filters.state:
        chosen = _LISTED.format(before=before)
    else:
        chosen = f"SELECT id, created_at FROM mails WHERE {before}"  # noqa: S608 - constants
    async with conn.cursor(row_factory=class_row(OutboxMail)) as cursor:
        await cursor.execute(
            f"""
            WITH chosen AS MATERIALIZED ({chosen} ORDER BY created_at DESC, id DESC LIMIT %(limit)s)
            {_COLUMNS}
              JOIN chosen ON chosen.id = m.id
             ORDER BY m.created_at DESC, m.id DESC
            """,  # constants of this module
            {
                **(vars(after) if after else {}),
                "kinds": [filters.kind] if filters.kind else list(get_args(Kind)),
                "states": [filters.state] if filters.state else list(get_args(State)),
                "email_key": filters.email_key,
                "limit": rows_to_read(limit),
            },
        )
        found = await cursor.fetchall()
    return cut_page(found, limit, after_row)


async def get_mail(conn: Connection, mail_id: UUID) -> OutboxMail:
    """Return a message.

    Raises:
        MailNotFoundError: no message has this id.
    """
    async with conn.cursor(row_factory=class_row(OutboxMail)) as cursor:
        await cursor.execute(f"{_COLUMNS} WHERE m.id = %(id)s", {"id": mail_id})
        mail = await cursor.fetchone()
    if mail is None:
        raise MailNotFoundError
    return mail


async def list_attempts(conn: Connection, mail_id: UUID) -> list[Attempt]:
    """Return all delivery attempts of a message, oldest first."""
    async with conn.cursor(row_factory=class_row(Attempt)) as cursor:
        await cursor.execute(
            """
            SELECT attempt, tried_at, outcome, stage, reason, reply
              FROM mail_attempts
             WHERE mail_id = %(id)s
             UNION ALL
            SELECT attempts, sent_at, 'sent', NULL, NULL, reply
              FROM mails
             WHERE id = %(id)s AND state = 'sent'
             ORDER BY tried_at
            """,
            {"id": mail_id},
        )
        return await cursor.fetchall()
