"""Erasure of an account and the personal data connected with it.

The account is deleted with its sessions and messages. Records of events stay, stripped of personal data: finished
sign-ups, so that a client watching one learns nothing; messages; the audit log.
"""

from __future__ import annotations

from uuid import UUID

from psycopg.rows import scalar_row

from regsvc.accounts.audit.record import By, forget_person, record
from regsvc.accounts.identities.attempts import forget_identities
from regsvc.accounts.limits.login_attempts import forget_address
from regsvc.accounts.registrations.activation import lock_address
from regsvc.accounts.users.user import UserNotFoundError, keep_an_admin
from regsvc.postgres.connection import Connection
from regsvc.security.tokens import Secrets

ERASED = "account_deleted"
# Addresses that the user had, and until when: the current one, and those before an email change. A later owner of an
# old address confirmed a later sign-up.
_ADDRESSES = """
    addresses AS (
        SELECT email_key AS key, 'infinity'::timestamptz AS until FROM users WHERE id = %(user_id)s
         UNION ALL
        SELECT old_key, done_at FROM address_moves WHERE user_id = %(user_id)s AND state = 'done'
    ), over AS (
        SELECT r.id
          FROM addresses a
          JOIN registrations r
            ON r.email_key = a.key AND r.state IN ('confirmed', 'expired', 'repudiated')
           AND CASE r.state WHEN 'confirmed' THEN r.changed_at ELSE r.created_at END <= a.until
         UNION ALL
        SELECT r.id
          FROM addresses a
          JOIN registrations r
            ON r.login_key = a.key AND r.state IN ('confirmed', 'expired', 'repudiated') AND r.created_at <= a.until
    )"""
_OPEN = [
    "queued",
    "sending",
    "delayed",
    "dead",
]  # messages that may still be sent; `dead` ones if an operator replays them


async def erase_user(
    conn: Connection, secrets: Secrets, user_id: UUID, by: By, *, password_hash: str | None = None
) -> None:
    """Delete an account in the caller's transaction, and erase the user's personal data.

    That includes addresses from before an email change. Pending sign-ups with the address are independent attempts,
    perhaps by other people: they expire, and are deleted 30 days later like all others.

    Args:
        conn: in a transaction.
        secrets: derive keys of the address.
        user_id: the user.
        by: the audit actor.
        password_hash: the user's current hash; None skips the check.

    Raises:
        UserNotFoundError: no such account, or its password has changed.
        LastAdminError: this user is the only administrator.
    """
    await keep_an_admin(conn, user_id)
    email_key = await _lock_user(conn, user_id, password_hash)
    # Lock in the order of a confirmation: address, messages, registrations.
    await lock_address(conn, email_key)
    await _erase_mails(conn, user_id)
    await forget_identities(conn, user_id)
    await _erase_registrations(conn, user_id)
    await _erase_invitations(conn, user_id)
    await record(conn, ERASED, by, user_id=user_id)
    await forget_person(conn, user_id)
    await forget_address(conn, secrets, email_key)
    await conn.execute("DELETE FROM users WHERE id = %(id)s", {"id": user_id})


async def _lock_user(conn: Connection, user_id: UUID, password_hash: str | None) -> str:
    """Lock a user and return the key of their address."""
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(
            """
            SELECT email_key FROM users
             WHERE id = %(id)s AND password_hash = coalesce(%(password_hash)s, password_hash)
               FOR UPDATE
            """,
            {"id": user_id, "password_hash": password_hash},
        )
        email_key = await cursor.fetchone()
    if email_key is None:
        raise UserNotFoundError
    return str(email_key)


async def _erase_mails(conn: Connection, user_id: UUID) -> None:
    """Remove the addresses from finished messages of the user's requests and registrations.

    An open message of a finished registration is cancelled, and a dead one cannot be replayed.
    """
    await conn.execute(
        f"""
        WITH {_ADDRESSES}, theirs AS (
            SELECT id FROM mails
             WHERE id IN (SELECT m.id FROM over JOIN mails m ON m.registration_id = over.id
                           UNION
                          SELECT m.id FROM addresses a JOIN mails m ON m.email_key = a.key
                           WHERE m.registration_id IS NULL AND m.due_at IS NULL AND m.created_at <= a.until)
             ORDER BY id
               FOR UPDATE
        ), attempts AS (
            UPDATE mail_attempts SET reply = NULL WHERE mail_id IN (SELECT id FROM theirs)
        )
        UPDATE mails m
           SET state = CASE WHEN m.state = ANY(%(open)s) THEN 'cancelled' ELSE m.state END,
               reason = CASE WHEN m.state = ANY(%(open)s) THEN %(reason)s ELSE m.reason END,
               due_at = NULL, lease = NULL, published_at = NULL, reply = NULL, foreign_token = NULL,
               email = CASE WHEN m.email IS NOT NULL THEN '' END,
               email_key = CASE WHEN m.email_key IS NOT NULL THEN '' END
          FROM theirs
         WHERE m.id = theirs.id
        """,  # noqa: S608 - a constant of this module
        {"user_id": user_id, "reason": ERASED, "open": _OPEN},
    )


async def _erase_registrations(conn: Connection, user_id: UUID) -> None:
    """Remove the personal data from finished sign-ups; their visible state stays."""
    await conn.execute(
        f"""
        WITH {_ADDRESSES}, passkeys AS (
            DELETE FROM registration_passkeys WHERE registration_id IN (SELECT id FROM over)
        )
        UPDATE registrations
           SET email = '', email_key = '', name = '', origin = '', client = '', app_data = NULL,
               login_key = CASE WHEN login_key IS NOT NULL THEN '' END
         WHERE id IN (SELECT id FROM registrations WHERE id IN (SELECT id FROM over) ORDER BY id FOR UPDATE)
        """,  # noqa: S608 - a constant of this module
        {"user_id": user_id},
    )


async def _erase_invitations(conn: Connection, user_id: UUID) -> None:
    """Delete the invitations of the user's addresses; a mail of one that waits is cancelled when it is claimed."""
    await conn.execute(
        f"""
        WITH {_ADDRESSES}
        DELETE FROM invitations i USING addresses a WHERE i.email_key = a.key AND i.created_at <= a.until
        """,  # noqa: S608 - a constant of this module
        {"user_id": user_id},
    )
