"""An identity of a user: who they are at a provider, by issuer and subject; never by the address."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid4

from psycopg.rows import class_row

from regsvc.errors import RegsvcError
from regsvc.postgres.connection import Connection
from regsvc.security.identities.proven_identity import ProvenIdentity

MOST = 20  # of one user


class IdentityTakenError(RegsvcError):
    """This identity already belongs to another account."""

    code = "identity_taken"


class IdentityNotFoundError(RegsvcError):
    """You have no such identity."""

    code = "identity_not_found"


class TooManyIdentitiesError(RegsvcError):
    """Your account has as many identities as it can have. Remove one first."""

    code = "too_many_identities"


@dataclass(frozen=True)
class Identity:
    """An identity as its owner sees it.

    Args:
        id: of the identity.
        provider: its name in the settings.
        email: as the provider had it last; empty if it gave none.
        created_at: when it was added.
        last_used_at: when it last logged in.
    """

    id: UUID
    provider: str
    email: str
    created_at: datetime
    last_used_at: datetime | None


@dataclass(frozen=True)
class Owner:
    """Whose an identity is.

    Args:
        identity_id: of the identity.
        user_id: the user.
    """

    identity_id: UUID
    user_id: UUID


async def find_owner(conn: Connection, proven: ProvenIdentity) -> Owner | None:
    """Return the user of an identity, or None."""
    async with conn.cursor(row_factory=class_row(Owner)) as cursor:
        await cursor.execute(
            """
            SELECT id AS identity_id, user_id FROM identities
             WHERE issuer = %(issuer)s AND subject = %(subject)s
            """,
            {"issuer": proven.issuer, "subject": proven.subject},
        )
        return await cursor.fetchone()


async def add_identity(conn: Connection, user_id: UUID, proven: ProvenIdentity) -> bool:
    """Add an identity to a user in the caller's transaction, and return whether it is new.

    Raises:
        IdentityTakenError: it is another user's.
        TooManyIdentitiesError: the user has `MOST`.
    """
    await conn.execute("SELECT FROM users WHERE id = %(id)s FOR NO KEY UPDATE", {"id": user_id})
    owner = await find_owner(conn, proven)
    if owner is not None and owner.user_id == user_id:
        return False
    if owner is None and len(await list_identities(conn, user_id)) >= MOST:
        raise TooManyIdentitiesError
    cursor = await conn.execute(
        """
        INSERT INTO identities (id, user_id, provider, issuer, subject, email)
        VALUES (%(id)s, %(user_id)s, %(provider)s, %(issuer)s, %(subject)s, %(email)s)
        ON CONFLICT (issuer, subject) DO NOTHING
        """,
        {
            "id": uuid4(),
            "user_id": user_id,
            "provider": proven.provider,
            "issuer": proven.issuer,
            "subject": proven.subject,
            "email": proven.email,
        },
    )
    if cursor.rowcount == 0:
        raise IdentityTakenError
    return True


async def note_use(conn: Connection, identity_id: UUID, proven: ProvenIdentity) -> None:
    """Note that an identity logged in, and the address that its provider has now."""
    await conn.execute(
        "UPDATE identities SET last_used_at = now(), email = %(email)s WHERE id = %(id)s",
        {"id": identity_id, "email": proven.email},
    )


async def list_identities(conn: Connection, user_id: UUID) -> Sequence[Identity]:
    """Return a user's identities, oldest first, at most `MOST`."""
    async with conn.cursor(row_factory=class_row(Identity)) as cursor:
        await cursor.execute(
            """
            SELECT id, provider, email, created_at, last_used_at
              FROM identities
             WHERE user_id = %(user_id)s
             ORDER BY created_at LIMIT %(limit)s
            """,
            {"user_id": user_id, "limit": MOST},
        )
        return await cursor.fetchall()


async def remove_identity(conn: Connection, user_id: UUID, identity_id: UUID) -> str:
    """Remove an identity of a user, and return its provider's name. The caller keeps another way in.

    Raises:
        IdentityNotFoundError: the user has no such identity.
    """
    cursor = await conn.execute(
        "DELETE FROM identities WHERE id = %(id)s AND user_id = %(user_id)s RETURNING provider",
        {"id": identity_id, "user_id": user_id},
    )
    row = await cursor.fetchone()
    if row is None:
        raise IdentityNotFoundError
    return str(row[0])


async def remove_identities(conn: Connection, user_id: UUID, since: datetime) -> int:
    """Remove the identities that a user added at a time or later, and return how many."""
    cursor = await conn.execute(
        "DELETE FROM identities WHERE user_id = %(user_id)s AND created_at >= %(since)s",
        {"user_id": user_id, "since": since},
    )
    return cursor.rowcount
