"""Passwords that were forgotten: a link to the address, and a new password for whoever opens it.

The link's token is the mail's id and a MAC over whom it is for and the hash of the password that was forgotten. Nothing
of it is stored, and once another password is set, by this link or in any other way, no such link is good any more.
"""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from regsvc.accounts.audit import By
from regsvc.mail.jobs import DUE_CHANNEL
from regsvc.postgres.connection import Connection
from regsvc.security.tokens import Secrets, mint_account_token

RESET_LIFE = timedelta(minutes=30)  # from the moment that the mail server accepted the mail

_USE = "password-reset"


async def add_forgot(conn: Connection, mail_id: UUID, email_key: str, by: By) -> None:
    """Insert the mail that somebody asked for by address, due now, and wake whoever sends.

    Whose account it is for, if there is one, is decided when it is taken in hand.
    """
    await conn.execute(
        """
        WITH added AS (
            INSERT INTO mails (id, kind, email_key, origin, client)
            VALUES (%(id)s, 'forgot', %(email_key)s, %(origin)s, %(client)s)
        )
        SELECT pg_notify(%(channel)s, '')
        """,
        {
            "id": mail_id,
            "email_key": email_key,
            "origin": by.origin,
            "client": by.client,
            "channel": DUE_CHANNEL,
        },
    )


def mint_reset_token(
    secrets: Secrets, mail_id: UUID, *, user_id: UUID, email_key: str, password_hash: str
) -> str:
    """Return the token of a mail's link: good for this user at this address as long as they have this password."""
    return mint_account_token(secrets, _USE, mail_id, str(user_id), email_key, password_hash)
