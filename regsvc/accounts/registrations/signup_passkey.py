"""The passkey of a sign-up that has no password: it becomes the user's when the sign-up is confirmed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias
from uuid import UUID

from psycopg.rows import class_row, scalar_row

from regsvc.accounts.registrations.activation import LIVE
from regsvc.postgres.connection import Connection
from regsvc.security.no_password import NO_PASSWORD
from regsvc.security.passkeys.registration import Credential

Method: TypeAlias = Literal["password", "passkey", "code"]


@dataclass(frozen=True, repr=False)
class SignupKey:
    """A live attempt that an assertion may select.

    Args:
        registration_id: of the attempt.
        user_id: that its user would have.
        public_key: a COSE key.
    """

    registration_id: UUID
    user_id: UUID
    public_key: bytes


async def add_signup_passkey(
    conn: Connection, registration_id: UUID, user_id: UUID, credential: Credential, name: str
) -> None:
    """Store the verified passkey of an attempt, in the transaction that adds the attempt."""
    await conn.execute(
        """
        INSERT INTO registration_passkeys (registration_id, user_id, credential_id, public_key, sign_count, synced,
                                           transports, name)
        VALUES (%(registration_id)s, %(user_id)s, %(credential_id)s, %(public_key)s, %(sign_count)s, %(synced)s,
                %(transports)s, %(name)s)
        """,
        {
            "registration_id": registration_id,
            "user_id": user_id,
            "credential_id": credential.id,
            "public_key": credential.public_key,
            "sign_count": credential.sign_count,
            "synced": credential.synced,
            "transports": list(credential.transports),
            "name": name,
        },
    )


async def find_signup_key(conn: Connection, email_key: str, credential_id: bytes) -> SignupKey | None:
    """Return the live attempt of an address that was made with a passkey, or None."""
    async with conn.cursor(row_factory=class_row(SignupKey)) as cursor:
        await cursor.execute(
            f"""
            SELECT p.registration_id, p.user_id, p.public_key
              FROM registration_passkeys p
              JOIN registrations ON registrations.id = p.registration_id
             WHERE p.credential_id = %(credential_id)s AND email_key = %(email_key)s AND {LIVE}
             LIMIT 1
            """,  # noqa: S608 - a constant
            {"credential_id": credential_id, "email_key": email_key},
        )
        return await cursor.fetchone()


async def list_methods(conn: Connection, email_key: str) -> Sequence[Method]:
    """Return by what the live attempts of an address can be told apart.

    The attempt of an identity provider has its code, typed where the person signed up.
    """
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(
            f"""
            SELECT EXISTS (SELECT FROM registrations
                            WHERE email_key = %(email_key)s AND {LIVE} AND password_hash NOT LIKE %(no_password)s)
             UNION ALL
            SELECT EXISTS (SELECT FROM registration_passkeys p JOIN registrations ON id = p.registration_id
                            WHERE email_key = %(email_key)s AND {LIVE})
             UNION ALL
            SELECT EXISTS (SELECT FROM registration_identities i JOIN registrations ON id = i.registration_id
                            WHERE email_key = %(email_key)s AND {LIVE})
            """,  # noqa: S608 - constants
            {"email_key": email_key, "no_password": NO_PASSWORD},
        )
        found = await cursor.fetchall()
    methods: tuple[Method, ...] = ("password", "passkey", "code")
    return [method for method, exists in zip(methods, found, strict=True) if exists]
