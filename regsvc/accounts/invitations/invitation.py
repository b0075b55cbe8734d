"""An invitation: an address that may become an account by the link mailed to it, and by nothing else.

The link's token is derived from the invitation and its address, and stands in the mail alone. What the inviter is
shown is how the mail stands, whether or not the address has an account already.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID, uuid4

from psycopg.rows import class_row

from regsvc.accounts.address import Address
from regsvc.accounts.audit.record import By, record
from regsvc.accounts.cursor import Page, Position, after_row, cut_page, rows_to_read
from regsvc.accounts.registrations.activation import lock_address
from regsvc.errors import RegsvcError
from regsvc.mail.queue.jobs import DUE_CHANNEL
from regsvc.postgres.connection import Connection

LIFE = timedelta(days=7)
KEEP = timedelta(days=30)  # after it is over
PENDING = "accepted_at IS NULL AND revoked_at IS NULL"

State = Literal["queued", "sending", "sent", "delayed", "bounced", "accepted", "expired", "revoked"]


class InvitationNotFoundError(RegsvcError):
    """There is no such invitation."""

    code = "invitation_not_found"


class InvitationOverError(RegsvcError):
    """This invitation is over: accepted, revoked or expired."""

    code = "invitation_over"


@dataclass(frozen=True)
class Invitation:
    """An invitation as its inviter sees it.

    Args:
        id: of the invitation.
        address: the invited address; None if its user was erased.
        state: `queued` to `bounced` as of a registration; `accepted`, `expired` and `revoked` are final.
        attempts: number of delivery attempts.
        next_try_at: time of the next delivery attempt, while delayed.
        reason: why it is delayed or bounced.
        delivered_at: when the mailbox was reported to have the mail.
        language: of the mail.
        invited_by: id of the administrator or service; None at the command line.
        created_at: when it was made.
        expires_at: when its link ends.
        accepted_at: when it became an account.
        revoked_at: when it was revoked, or replaced by a newer one.
    """

    id: UUID
    address: str | None
    state: State
    attempts: int
    next_try_at: datetime | None
    reason: str | None
    delivered_at: datetime | None
    language: str
    invited_by: UUID | None
    created_at: datetime
    expires_at: datetime
    accepted_at: datetime | None
    revoked_at: datetime | None


# A mail that was deleted was sent long before. One that was cancelled never went out.
_SHOWN = """
    SELECT i.id, nullif(i.email, '') AS address, i.locale AS language, i.invited_by, i.created_at, i.expires_at,
           i.accepted_at, i.revoked_at, coalesce(m.attempts, 0) AS attempts,
           CASE WHEN i.accepted_at IS NOT NULL THEN 'accepted'
                WHEN i.revoked_at IS NOT NULL THEN 'revoked'
                WHEN i.expires_at <= now() THEN 'expired'
                WHEN m.id IS NULL THEN 'sent'
                WHEN m.report IN ('bounced', 'failed') OR m.state IN ('bounced', 'dead', 'cancelled') THEN 'bounced'
                WHEN m.report = 'deferred' THEN 'delayed'
                ELSE m.state END AS state,
           CASE WHEN m.state = 'delayed' THEN m.due_at END AS next_try_at,
           CASE WHEN m.report IN ('bounced', 'failed', 'deferred') THEN coalesce(m.report_reason, 'other')
                WHEN m.state = 'dead' THEN 'gave_up' ELSE m.reason END AS reason,
           CASE WHEN m.report = 'delivered' THEN m.reported_at END AS delivered_at
      FROM invitations i LEFT JOIN mails m ON m.id = i.mail_id
"""


async def invite(conn: Connection, address: Address, locale: str, by: By) -> UUID:
    """Insert an invitation and its mail in the caller's transaction, and return its id.

    An earlier invitation of the address that is still open ends: one link works at a time.

    Args:
        conn: in a transaction.
        address: the only one that the invitation is good for; it is not looked up.
        locale: language of the mail.
        by: the audit actor.
    """
    await lock_address(conn, address.key)
    await conn.execute(
        f"UPDATE invitations SET revoked_at = now() WHERE email_key = %(key)s AND {PENDING}",  # noqa: S608 - constants
        {"key": address.key},
    )
    invitation_id, mail_id = uuid4(), uuid4()
    await conn.execute(
        """
        WITH invited AS (
            INSERT INTO invitations (id, mail_id, email, email_key, locale, invited_by, expires_at)
            VALUES (%(id)s, %(mail_id)s, %(email)s, %(key)s, %(locale)s, %(by)s, now() + %(life)s)
        ), mailed AS (
            INSERT INTO mails (id, kind, email, email_key, admitted)
            VALUES (%(mail_id)s, 'invitation', %(email)s, %(key)s, true)
        )
        SELECT pg_notify(%(channel)s, '')
        """,
        {
            "id": invitation_id,
            "mail_id": mail_id,
            "email": address.email,
            "key": address.key,
            "locale": locale,
            "by": by.actor_id,
            "life": LIFE,
            "channel": DUE_CHANNEL,
        },
    )
    await record(conn, "invitation_sent", by, invitation=str(invitation_id))
    return invitation_id


async def get_invitation(conn: Connection, invitation_id: UUID) -> Invitation:
    """Return an invitation.

    Raises:
        InvitationNotFoundError: there is none of this id.
    """
    async with conn.cursor(row_factory=class_row(Invitation)) as cursor:
        await cursor.execute(f"{_SHOWN} WHERE i.id = %(id)s", {"id": invitation_id})
        found = await cursor.fetchone()
    if found is None:
        raise InvitationNotFoundError
    return found


async def list_invitations(
    conn: Connection, *, email_key: str | None, after: Position | None, limit: int
) -> Page[Invitation]:
    """Return a page of invitations, newest first.

    Args:
        conn: connection to read with.
        email_key: only invitations of this address.
        after: position before the page; None for the newest.
        limit: rows, at most `MAX_PAGE`.
    """
    conditions = [
        *(["(i.created_at, i.id) < (%(created_at)s, %(id)s)"] if after else []),
        *(["i.email_key = %(email_key)s"] if email_key else []),
    ]
    async with conn.cursor(row_factory=class_row(Invitation)) as cursor:
        await cursor.execute(
            f"""
            {_SHOWN}
             WHERE {" AND ".join(conditions) or "true"}
             ORDER BY i.created_at DESC, i.id DESC
             LIMIT %(limit)s
            """,  # constants of this module
            {**(vars(after) if after else {}), "email_key": email_key, "limit": rows_to_read(limit)},
        )
        found = await cursor.fetchall()
    return cut_page(found, limit, after_row)


async def revoke_invitation(conn: Connection, invitation_id: UUID, by: By) -> None:
    """End an invitation in the caller's transaction; its link is void from then on, mailed or not.

    Raises:
        InvitationNotFoundError: there is none of this id.
        InvitationOverError: it was accepted, revoked or has expired.
    """
    cursor = await conn.execute(
        f"UPDATE invitations SET revoked_at = now() WHERE id = %(id)s AND {PENDING} AND expires_at > now()",  # noqa: S608
        {"id": invitation_id},
    )
    if cursor.rowcount == 0:
        await get_invitation(conn, invitation_id)
        raise InvitationOverError
    await record(conn, "invitation_revoked", by, invitation=str(invitation_id))


async def purge_invitations(conn: Connection, limit: int) -> int:
    """Delete invitations that have been over for 30 days, and return the count."""
    cursor = await conn.execute(
        """
        DELETE FROM invitations
         WHERE id IN (SELECT id FROM invitations WHERE created_at <= now() - %(keep)s
                       ORDER BY created_at, id LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
        """,
        {"keep": LIFE + KEEP, "limit": limit},
    )
    return cursor.rowcount


async def revive_mails(conn: Connection, limit: int) -> int:
    """Take up mails of open invitations that a worker of an older program cancelled, and return the count.

    While two versions run side by side, the older one takes an invitation's mail for one that no attempt wants.
    """
    cursor = await conn.execute(
        f"""
        WITH revived AS (
            UPDATE mails SET state = 'queued', due_at = now(), reason = NULL, changed_at = now()
             WHERE id IN (SELECT m.id FROM mails m
                           WHERE m.kind = 'invitation' AND m.state = 'cancelled' AND m.reason = 'registration_over'
                             AND EXISTS (SELECT FROM invitations i
                                          WHERE i.mail_id = m.id AND {PENDING} AND i.expires_at > now())
                           ORDER BY m.id LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
            RETURNING id
        )
        SELECT pg_notify(%(channel)s, '') FROM revived
        """,  # noqa: S608 - constants of this module
        {"limit": limit, "channel": DUE_CHANNEL},
    )
    return cursor.rowcount
