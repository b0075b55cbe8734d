"""Service tokens: made at the command line alone, shown once, and kept as a digest.

A token has scopes, each of which opens some calls for administrators. No scope opens service tokens, roles or signing
keys, so that a token cannot make itself another one or an administrator.
"""

from __future__ import annotations

import hashlib
import secrets as random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, get_args
from uuid import UUID

from psycopg.rows import class_row, scalar_row

from regsvc.accounts.audit.record import By, record
from regsvc.errors import RegsvcError
from regsvc.postgres.connection import Connection

Scope = Literal[
    "audit:read",
    "invitations:read",
    "invitations:write",
    "mails:read",
    "mails:write",
    "registrations:read",
    "registrations:write",
    "supervisor:read",
    "supervisor:write",
    "suppressions:read",
    "suppressions:write",
    "tokens:introspect",
    "users:read",
    "users:write",
]
SCOPES: tuple[Scope, ...] = get_args(Scope)

PREFIX = "rgs_"  # by which scanners for leaked secrets know such a token
_RANDOM_BYTES = 32


class ServiceTokenNotFoundError(RegsvcError):
    """No service token has this id, or it is revoked already."""


@dataclass(frozen=True)
class ServiceToken:
    """A service token, without its text.

    Args:
        id: its id.
        name: what the operator called it.
        scopes: what it may do.
        created_at: when it was made.
        expires_at: when it ends by itself; None for never.
        last_used_at: when it was last used, to the hour.
        revoked_at: when it was revoked.
    """

    id: UUID
    name: str
    scopes: Sequence[str]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None


_COLUMNS = "id, name, scopes, created_at, expires_at, last_used_at, revoked_at"


def digest_token(text: str) -> bytes:
    """Return the 32 bytes by which the database knows a token."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


async def create_token(
    conn: Connection, name: str, scopes: Sequence[Scope], life: timedelta | None, by: By
) -> tuple[ServiceToken, str]:
    """Create a service token in the caller's transaction.

    Args:
        conn: in a transaction.
        name: what to call it.
        scopes: what it may do.
        life: after which it ends; None for never.
        by: the audit actor.

    Returns:
        The token and its text, which is not kept.
    """
    text = PREFIX + random.token_urlsafe(_RANDOM_BYTES)
    async with conn.cursor(row_factory=class_row(ServiceToken)) as cursor:
        await cursor.execute(
            f"""
            INSERT INTO service_tokens (name, digest, scopes, expires_at)
            VALUES (%(name)s, %(digest)s, %(scopes)s, now() + %(life)s)
            RETURNING {_COLUMNS}
            """,  # noqa: S608 - a constant
            {"name": name, "digest": digest_token(text), "scopes": sorted(set(scopes)), "life": life},
        )
        created = await cursor.fetchone()
    assert created is not None  # noqa: S101 - inserted above
    await record(
        conn, "service_token_created", by, token=str(created.id), name=name, scopes=" ".join(created.scopes)
    )
    return created, text


async def list_tokens(conn: Connection) -> list[ServiceToken]:
    """Return all service tokens, the newest first."""
    async with conn.cursor(row_factory=class_row(ServiceToken)) as cursor:
        await cursor.execute(f"SELECT {_COLUMNS} FROM service_tokens ORDER BY created_at DESC, id")  # noqa: S608
        return await cursor.fetchall()


async def find_token(conn: Connection, text: str) -> ServiceToken | None:
    """Return the service token with this text, or None if there is none that is good, and note its use.

    Args:
        conn: for the statement, which is a transaction by itself.
        text: as received.
    """
    async with conn.cursor(row_factory=class_row(ServiceToken)) as cursor:
        await cursor.execute(
            f"""
            WITH found AS (
                SELECT {_COLUMNS} FROM service_tokens
                 WHERE digest = %(digest)s AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
            ), noted AS (
                UPDATE service_tokens t SET last_used_at = now() FROM found
                 WHERE t.id = found.id
                   AND (t.last_used_at IS NULL OR t.last_used_at <= now() - interval '1 hour')
            )
            SELECT * FROM found
            """,  # noqa: S608 - a constant
            {"digest": digest_token(text)},
        )
        return await cursor.fetchone()


async def revoke_token(conn: Connection, token_id: UUID, by: By) -> str:
    """Revoke a service token in the caller's transaction, and return its name. It is refused at once.

    Raises:
        ServiceTokenNotFoundError: there is none with this id, or it is revoked already.
    """
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(
            "UPDATE service_tokens SET revoked_at = now() WHERE id = %(id)s AND revoked_at IS NULL RETURNING name",
            {"id": token_id},
        )
        name: str | None = await cursor.fetchone()
    if name is None:
        raise ServiceTokenNotFoundError
    await record(conn, "service_token_revoked", by, token=str(token_id), name=name)
    return name
