"""Operator actions on a message: replay or cancel.

Its registration changes in the same transaction, so that waiting clients see its true state.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from psycopg.rows import scalar_row

from regsvc.accounts.admin.mail_search import MailNotFoundError, State
from regsvc.accounts.audit.record import By, record
from regsvc.accounts.registrations.registration import (
    ATTEMPT_LIFE,
    STATE_CHANNEL,
    UNSENT_LIFE,
    RegistrationOverError,
    alive,
)
from regsvc.errors import RegsvcError
from regsvc.mail.queue.jobs import ATTEMPT, DUE_CHANNEL
from regsvc.postgres.connection import Connection

CANCELLED = "cancelled_by_operator"
DEAD_AT_ONCE = 1000


class MailInHandError(RegsvcError):
    """The message is being sent. Retry in a minute."""

    code = "mail_in_hand"


class MailOverError(RegsvcError):
    """This message cannot be cancelled: it has already been sent, refused, given up or cancelled."""

    code = "mail_over"


# A registration whose message can still be sent. A message to an earlier address stays dead, as its code does.
_GOES_ON = f"r.state <> 'confirmed' AND {alive('r')} AND m.created_at >= r.address_since"

# A message without registration: its account is not decided yet, or it is legacy mail whose token is still stored.
_NOBODYS = "r.id IS NULL AND (m.kind <> 'foreign' OR m.foreign_token IS NOT NULL)"


async def replay_mail(conn: Connection, mail_id: UUID, by: By) -> None:
    """Replay a message in the caller's transaction: due now, no attempts, 48 hours to live.

    It keeps its Message-ID, link and code, and ignores its address's schedule. Its registration is shown as queued, and
    its link lives until 24 hours after the mail server accepts the message.

    Raises:
        MailNotFoundError: no message has this id.
        MailInHandError: the message is being sent.
        RegistrationOverError: its registration is over or has another address, or it is legacy mail
            whose token was deleted when the mail server accepted it.
    """
    await _lock_mail(conn, mail_id)
    if not await _goes_on(conn, mail_id):
        raise RegistrationOverError(
            "This message cannot be replayed: its registration is over or has another address, or its link is no "
            "longer stored."
        )
    await _keep_acceptance(conn, mail_id)
    await _revive(conn, [mail_id])
    await record(conn, "mail_replayed", by, mail=str(mail_id))


async def replay_dead(
    conn: Connection, limit: int, by: By, *, reason: str | None = None, words: str | None = None
) -> int:
    """Replay dead messages in the caller's transaction, oldest first, and return the count; see `replay_mail`.

    Messages whose registration is over stay dead.

    Args:
        conn: in a transaction.
        limit: maximum number of messages.
        by: the operator.
        reason: include bounced messages; only those that ended for this reason.
        words: include bounced messages; only those whose server reply contains these words.
    """
    by_words = reason is not None or words is not None
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(
            f"""
            SELECT m.id
              FROM mails m
              LEFT JOIN registrations r ON r.id = {ATTEMPT}
             WHERE m.state = ANY(%(states)s) AND ({_NOBODYS} OR {_GOES_ON})
               AND (%(reason)s::text IS NULL OR m.reason = %(reason)s)
               AND (%(words)s::text IS NULL OR position(lower(%(words)s) IN lower(m.reply)) > 0)
             ORDER BY m.created_at, m.id
             LIMIT %(limit)s
               FOR UPDATE OF m SKIP LOCKED
            """,  # noqa: S608 - a constant of this module
            {
                "limit": limit,
                "states": ["dead", "bounced"] if by_words else ["dead"],
                "reason": reason,
                "words": words,
            },
        )
        mail_ids = await cursor.fetchall()
    await _revive(conn, mail_ids)
    if mail_ids:
        chosen: dict[str, str] = {}
        if reason is not None:
            chosen["reason"] = reason
        if words is not None:
            chosen["words"] = words
        await record(conn, "dead_mails_replayed", by, user_id=None, count=len(mail_ids), **chosen)
    return len(mail_ids)


async def cancel_mail(conn: Connection, mail_id: UUID, by: By) -> None:
    """Cancel an open message in the caller's transaction.

    Its registration is shown as bounced unless another of its messages is open or was sent: waiting clients learn that
    none will come, and may request another.

    Raises:
        MailNotFoundError: no message has this id.
        MailInHandError: the message is being sent, or its sender crashed while sending it.
        MailOverError: the message is not open.
    """
    match await _lock_mail(conn, mail_id):
        case "sending":
            raise MailInHandError
        case "queued" | "delayed":
            pass
        case _:
            raise MailOverError
    await conn.execute(
        """
        UPDATE mails
           SET state = 'cancelled', due_at = NULL, published_at = NULL, reason = %(reason)s, reply = NULL,
               foreign_token = NULL, changed_at = now()
         WHERE id = %(id)s
        """,
        {"id": mail_id, "reason": CANCELLED},
    )
    await _show_cancelled(conn, mail_id)
    await record(conn, "mail_cancelled", by, mail=str(mail_id))


async def _lock_mail(conn: Connection, mail_id: UUID) -> State:
    """Lock a message against concurrent changes, and return its state; one that is being sent is refused."""
    cursor = await conn.execute(
        "SELECT state, state = 'sending' AND due_at > now() FROM mails WHERE id = %(id)s FOR UPDATE",
        {"id": mail_id},
    )
    row = await cursor.fetchone()
    if row is None:
        raise MailNotFoundError
    state, in_hand = row
    if in_hand:
        raise MailInHandError
    return state  # type: ignore[no-any-return]  # the column's CHECK says what it is


async def _goes_on(conn: Connection, mail_id: UUID) -> bool:
    """Return whether a message is still wanted, or its account not decided yet."""
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(
            f"""
            SELECT ({_NOBODYS}) OR ({_GOES_ON})
              FROM mails m
              LEFT JOIN registrations r ON r.id = {ATTEMPT}
             WHERE m.id = %(id)s
            """,  # noqa: S608 - a constant of this module
            {"id": mail_id},
        )
        return bool(await cursor.fetchone())


async def _keep_acceptance(conn: Connection, mail_id: UUID) -> None:
    """Record the acceptance of a message before its row forgets it."""
    await conn.execute(
        """
        INSERT INTO mail_attempts (mail_id, tried_at, attempt, outcome, reply)
        SELECT id, sent_at, attempts, 'sent', reply FROM mails WHERE id = %(id)s AND state = 'sent'
        """,
        {"id": mail_id},
    )


async def _revive(conn: Connection, mail_ids: Sequence[UUID]) -> None:
    """Make messages locked by the caller due, and show their registrations as queued.

    If a registration ends concurrently, its message is cancelled when it is claimed.
    """
    await conn.execute(
        f"""
        WITH revived AS (
            UPDATE mails m
               SET state = 'queued', due_at = now(), attempts = 0, lease = NULL, published_at = NULL, sent_at = NULL,
                   sent_as = NULL, reason = NULL, reply = NULL, admitted = true, silent = false,
                   follows = false,
                   replayed_at = now(), changed_at = now()
             WHERE m.id = ANY(%(ids)s)
            RETURNING {ATTEMPT} AS registration_id
        ), moved AS (
            UPDATE registrations r
               SET state = 'queued', seq = r.seq + 1, next_try_at = NULL, reason = NULL, changed_at = now(),
                   expires_at = least(greatest(r.expires_at, now() + %(unsent_life)s), r.created_at + %(attempt_life)s)
             WHERE r.id IN (SELECT registration_id FROM revived)
               AND r.state NOT IN ('confirmed', 'expired', 'repudiated')
            RETURNING r.id, r.seq
        )
        SELECT pg_notify(%(due_channel)s, '')
         UNION ALL
        SELECT pg_notify(%(state_channel)s, id || ':' || seq) FROM moved
        """,  # noqa: S608 - a constant
        {
            "ids": list(mail_ids),
            "unsent_life": UNSENT_LIFE,
            "attempt_life": ATTEMPT_LIFE,
            "due_channel": DUE_CHANNEL,
            "state_channel": STATE_CHANNEL,
        },
    )


async def _show_cancelled(conn: Connection, mail_id: UUID) -> None:
    """Show the registration of a cancelled message as bounced, or as sent if another of its messages was."""
    await conn.execute(
        f"""
        WITH moved AS (
            UPDATE registrations r
               SET state = CASE WHEN others.sent THEN 'sent' ELSE 'bounced' END,
                   reason = CASE WHEN NOT others.sent THEN %(reason)s END,
                   seq = r.seq + 1, next_try_at = NULL, changed_at = now()
              FROM mails m
              JOIN LATERAL (SELECT bool_or(o.state = 'sent') AS sent,
                                   bool_or(o.state IN ('queued', 'sending', 'delayed')) AS open
                              FROM mails o
                             WHERE o.registration_id = m.registration_id
                                OR o.kind = 'login' AND o.wanted = m.wanted) AS others ON true
             WHERE m.id = %(id)s AND NOT m.silent AND r.id = {ATTEMPT}
               AND r.state NOT IN ('confirmed', 'expired', 'repudiated')
               AND NOT others.open AND NOT (others.sent AND r.state = 'sent')
            RETURNING r.id, r.seq
        )
        SELECT pg_notify(%(channel)s, id || ':' || seq) FROM moved
        """,  # noqa: S608 - a constant
        {"id": mail_id, "reason": CANCELLED, "channel": STATE_CHANNEL},
    )
