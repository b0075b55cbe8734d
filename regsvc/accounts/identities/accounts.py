"""The account at the address that a provider gives, and a new one."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID, uuid4

from psycopg.rows import class_row, scalar_row
from psycopg.types.json import Jsonb

from regsvc.accounts.address import Address
from regsvc.accounts.identities.linking import Account
from regsvc.accounts.users.email_change import UNDO_LIFE
from regsvc.postgres.connection import Connection


@dataclass(frozen=True)
class AccountAtAddress:
    """The account at an address.

    Args:
        user_id: of its user.
        vouches: whether the provider's word on the address is enough to join it. It is not for administrators,
            disabled users and those with a second factor, nor while an email change may be undone: then the address
            may be a thief's.
    """

    user_id: UUID
    vouches: bool

    @property
    def standing(self) -> Account:
        """Return what the linking rules make of it."""
        return "vouches" if self.vouches else "reserved"


async def find_account(conn: Connection, email_key: str) -> AccountAtAddress | None:
    """Return the account at an address, or None."""
    async with conn.cursor(row_factory=class_row(AccountAtAddress)) as cursor:
        await cursor.execute(
            """
            SELECT u.id AS user_id,
                   u.role = 'user' AND u.disabled_at IS NULL
                   AND NOT EXISTS (SELECT FROM totp_authenticators t WHERE t.user_id = u.id)
                   AND NOT EXISTS (SELECT FROM address_moves m
                                    WHERE m.user_id = u.id AND m.state = 'done'
                                      AND m.done_at > now() - %(undo)s) AS vouches
              FROM users u
             WHERE u.email_key = %(email_key)s
            """,
            {"email_key": email_key, "undo": UNDO_LIFE},
        )
        return await cursor.fetchone()


async def open_account(
    conn: Connection,
    address: Address,
    *,
    name: str,
    locale: str,
    password_hash: str,
    terms: str | None,
    app_data: Jsonb | None = None,
) -> UUID | None:
    """Open an account of an address that a provider vouches for; the caller has locked the address.

    Returns:
        The user's id, or None if the address has an account.
    """
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(
            """
            INSERT INTO users (id, email, email_key, name, locale, password_hash, terms, terms_at, app_data)
            VALUES (%(id)s, %(email)s, %(email_key)s, %(name)s, %(locale)s, %(password_hash)s, %(terms)s,
                    CASE WHEN %(terms)s::text IS NOT NULL THEN now() END, %(app_data)s)
            ON CONFLICT (email_key) DO NOTHING
            RETURNING id
            """,
            {
                "id": uuid4(),
                "email": address.email,
                "email_key": address.key,
                "name": name,
                "locale": locale,
                "password_hash": password_hash,
                "terms": terms,
                "app_data": app_data,
            },
        )
        found: UUID | None = await cursor.fetchone()
        return found
