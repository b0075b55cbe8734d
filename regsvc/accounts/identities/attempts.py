"""Identities of sign-up attempts; `regsvc.accounts.registrations.activation` makes them users'."""

from __future__ import annotations

from uuid import UUID

from regsvc.postgres.connection import Connection
from regsvc.security.identities.proven_identity import ProvenIdentity


async def attach_identity(conn: Connection, registration_id: UUID, proven: ProvenIdentity) -> None:
    """Store the identity that an attempt brings, in the transaction that stores the attempt."""
    await conn.execute(
        """
        INSERT INTO registration_identities (registration_id, provider, issuer, subject, email)
        VALUES (%(registration_id)s, %(provider)s, %(issuer)s, %(subject)s, %(email)s)
        """,
        {
            "registration_id": registration_id,
            "provider": proven.provider,
            "issuer": proven.issuer,
            "subject": proven.subject,
            "email": proven.email,
        },
    )


async def forget_identities(conn: Connection, user_id: UUID) -> None:
    """Delete the identities of attempts that had a user's address and are over."""
    await conn.execute(
        """
        DELETE FROM registration_identities i USING registrations r, users u
         WHERE u.id = %(user_id)s AND r.email_key = u.email_key AND r.id = i.registration_id
           AND r.state IN ('confirmed', 'expired', 'repudiated')
        """,
        {"user_id": user_id},
    )
