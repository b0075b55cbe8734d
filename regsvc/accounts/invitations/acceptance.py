"""Acceptance of an invitation by the link in its mail: once, for exactly the invited address."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID, uuid4

from psycopg.rows import class_row, scalar_row
from psycopg.types.json import Jsonb

from regsvc.accounts.audit.record import By, record
from regsvc.accounts.invitations.invitation import PENDING, InvitationOverError
from regsvc.accounts.limits.login_attempts import know_client
from regsvc.accounts.registrations.activation import lock_address
from regsvc.errors import RegsvcError
from regsvc.postgres.connection import Connection
from regsvc.security.tokens import AccountToken, Secrets, mint_account_token

USE = "invitation-link"


class InvitationInvalidError(RegsvcError):
    """This link is no invitation."""

    code = "invitation_invalid"


@dataclass(frozen=True)
class Invited:
    """An address that an open invitation is for."""

    email: str
    email_key: str


@dataclass(frozen=True, repr=False)
class NewAccount:
    """What an invited person chose.

    Args:
        name: of the user.
        locale: language of mails to the user.
        password_hash: hash of the password.
        terms: version of the terms that the user accepted, if there are any.
        app_data: what the hook before sign-ups adds.
    """

    name: str
    locale: str
    password_hash: str
    terms: str | None
    app_data: Jsonb | None = None


def mint_invitation_token(secrets: Secrets, invitation_id: UUID, email_key: str) -> str:
    """Return the token of an invitation's link."""
    return mint_account_token(secrets, USE, invitation_id, email_key)


async def find_invited(conn: Connection, secrets: Secrets, token: AccountToken) -> Invited:
    """Return the address of the invitation that a link accepts, and change nothing.

    Raises:
        InvitationInvalidError: the link is none of ours.
        InvitationOverError: the invitation was accepted or revoked, or has expired.
    """
    async with conn.cursor(row_factory=class_row(Invited)) as cursor:
        await cursor.execute("SELECT email, email_key FROM invitations WHERE id = %(id)s", {"id": token.id})
        found = await cursor.fetchone()
        if found is None or not token.proves(secrets, USE, found.email_key):
            raise InvitationInvalidError
        await cursor.execute(
            f"SELECT email, email_key FROM invitations WHERE id = %(id)s AND {PENDING} AND expires_at > now()",  # noqa: S608
            {"id": token.id},
        )
        if await cursor.fetchone() is None:
            raise InvitationOverError
    return found


async def accept_invitation(
    conn: Connection, secrets: Secrets, token: AccountToken, new: NewAccount, by: By
) -> UUID:
    """Make the invited person a user, in the caller's transaction, and return the user's id.

    Every other attempt to sign up with the address ends, without a sign to the client that watches it: the account
    has the password of the reader of the mail.

    Raises:
        InvitationInvalidError: the link is none of ours.
        InvitationOverError: the invitation is over, or the address has an account by now.
    """
    invited = await find_invited(conn, secrets, token)
    await lock_address(conn, invited.email_key)
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(
            f"""
            WITH accepted AS (
                UPDATE invitations SET accepted_at = now()
                 WHERE id = %(id)s AND {PENDING} AND expires_at > now()
                   AND NOT EXISTS (SELECT FROM users u WHERE u.email_key = invitations.email_key)
                RETURNING email, email_key
            )
            INSERT INTO users (id, email, email_key, name, locale, password_hash, terms, terms_at, app_data)
            SELECT %(user_id)s, email, email_key, %(name)s, %(locale)s, %(password_hash)s, %(terms)s,
                   CASE WHEN %(terms)s::text IS NOT NULL THEN now() END, %(app_data)s::jsonb
              FROM accepted
            RETURNING id
            """,  # noqa: S608 - a constant
            {"id": token.id, "user_id": uuid4(), **vars(new)},
        )
        user_id: UUID | None = await cursor.fetchone()
    if user_id is None:
        raise InvitationOverError
    await conn.execute(
        """
        UPDATE registrations SET ended_key = email_key
         WHERE email_key = %(key)s AND state NOT IN ('confirmed', 'expired', 'repudiated')
        """,
        {"key": invited.email_key},
    )
    await record(conn, "account_created", by, user_id=user_id, invitation=str(token.id))
    await know_client(conn, secrets, invited.email_key, by)
    return user_id
