"""Mails as an operator sees them: found, and looked at. What one does about them is in `interventions`.

They are shown with the registration that they are for, of which the mail's own room knows nothing. What was tried is
in two places: the attempt that the mail server accepted is the mail's row, all others have rows of their own, since
nearly every mail is accepted at once and need not pay for the few that are not. An attempt whose process was killed
left no word; its number is missing.
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
Kind = Literal["signup", "resend", "foreign", "notice", "forgot", "email_change"]


class MailNotFoundError(RegsvcError):
    """There is no such mail."""

    code = "mail_not_found"


@dataclass(frozen=True)
class OutboxMail:
    """A mail and its recipient.

    Args:
        id: of the mail; its Message-ID and its code are made of it.
        kind: what was asked for.
        sent_as: what it became, once it was accepted.
        state: of the mail; see `regsvc.mail.jobs`.
        attempts: of this life.
        address: where it goes; None if that was mended since, and is known no more.
        registration: that it is for, once that is decided.
        registration_state: how that one is shown to the clients that wait for it.
        silent: what becomes of the mail is not shown to them.
        due_at: when an open mail is taken up, or its sender counts as gone.
        reason: why it is not sent, as a word.
        reply: what the mail server said last.
        created_at: when it was asked for.
        changed_at: when its state last changed.
        sent_at: when the mail server accepted it.
        replayed_at: when an operator gave it its present life.
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
    """One try to send a mail.

    Args:
        attempt: its number, from 1 in each life of the mail.
        tried_at: when it had ended.
        outcome: what the mail became.
        stage: of the conversation with the mail server, where it failed.
        reason: why it failed, as a word.
        reply: what the mail server said.
    """

    attempt: int
    tried_at: datetime
    outcome: Literal["sent", "delayed", "bounced", "dead"]
    stage: str | None
    reason: str | None
    reply: str | None


@dataclass(frozen=True)
class Filters:
    """Which mails to list: those that have all that is given.

    Args:
        state: of the mail.
        kind: what was asked for.
        email_key: the address, as it is compared.
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
# The newest of each kind and state, to be merged: one index serves both filters, alone and together.
_LISTED = """
    SELECT found.id, found.created_at
      FROM unnest(%(kinds)s::text[]) AS k (kind)
     CROSS JOIN unnest(%(states)s::text[]) AS s (state)
     CROSS JOIN LATERAL (
        SELECT id, created_at FROM mails
         WHERE kind = k.kind AND state = s.state AND {before}
         ORDER BY created_at DESC, id DESC LIMIT %(limit)s) AS found
"""
# Mails that were asked for by address, and those of registrations, which live or are over: an index for each.
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
    """Return a page of mails, the newest first.

    Args:
        conn: reads.
        filters: which mails.
        after: where the page begins; None for the newest.
        limit: how many, `MAX_PAGE` at most.
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
    """Return a mail.

    Raises:
        MailNotFoundError: there is none of that id.
    """
    async with conn.cursor(row_factory=class_row(OutboxMail)) as cursor:
        await cursor.execute(f"{_COLUMNS} WHERE m.id = %(id)s", {"id": mail_id})
        mail = await cursor.fetchone()
    if mail is None:
        raise MailNotFoundError
    return mail


async def list_attempts(conn: Connection, mail_id: UUID) -> list[Attempt]:
    """Return what was tried to send a mail, in all its lives, the oldest first."""
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
