"""Codes that other clients exchange for tokens: random, hashed, good once and for a minute (RFC 6749, 10.5)."""

from __future__ import annotations

import hashlib
import secrets as random
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

from psycopg.rows import dict_row

from regsvc.errors import RegsvcError
from regsvc.postgres.connection import Connection
from regsvc.security.identities.proven_identity import ProvenIdentity

LIFE = timedelta(seconds=60)


class LoginCodeInvalidError(RegsvcError):
    """This code is unknown, used or older than a minute, or not yours. Start the login again."""

    code = "login_code_invalid"


@dataclass(frozen=True, repr=False)
class LoginCode:
    """A code that was used.

    Args:
        code_hash: by which it is stored.
        code_challenge: of the client that may exchange it.
        expires_at: when it is over.
        proven: the identity that it stands for.
    """

    code_hash: bytes
    code_challenge: str
    expires_at: datetime
    proven: ProvenIdentity


async def add_code(conn: Connection, proven: ProvenIdentity, code_challenge: str) -> str:
    """Store a code for an identity, and return it.

    Args:
        conn: for the statement.
        proven: the identity.
        code_challenge: of the client that may exchange it.
    """
    code = random.token_urlsafe(32)
    await _insert(conn, proven, _hash(code), code_challenge, None)
    return code


async def put_back(conn: Connection, used: LoginCode) -> None:
    """Make a used code good again for the rest of its minute, where nothing came of it yet."""
    await _insert(conn, used.proven, used.code_hash, used.code_challenge, used.expires_at)


async def _insert(
    conn: Connection,
    proven: ProvenIdentity,
    code_hash: bytes,
    code_challenge: str,
    expires_at: datetime | None,
) -> None:
    await conn.execute(
        """
        INSERT INTO identity_codes
               (code_hash, code_challenge, provider, issuer, subject, email, trust, name, expires_at)
        VALUES (%(code_hash)s, %(code_challenge)s, %(provider)s, %(issuer)s, %(subject)s, %(email)s, %(trust)s,
                %(name)s, coalesce(%(expires_at)s, now() + %(life)s))
        """,
        {
            **asdict(proven),
            "code_hash": code_hash,
            "code_challenge": code_challenge,
            "expires_at": expires_at,
            "life": LIFE,
        },
    )


async def take_code(conn: Connection, code: str, code_challenge: str) -> LoginCode:
    """Use a code up, and return what it stands for. A wrong verifier uses it up, too.

    Args:
        conn: for the statement, which is a transaction by itself.
        code: as the client got it.
        code_challenge: of the verifier that the client shows.

    Raises:
        LoginCodeInvalidError: unknown, used, too old, or another client's.
    """
    async with conn.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(
            """
            DELETE FROM identity_codes WHERE code_hash = %(code_hash)s
            RETURNING provider, issuer, subject, email, trust, name, expires_at,
                      expires_at > now() AND code_challenge = %(code_challenge)s AS good
            """,
            {"code_hash": _hash(code), "code_challenge": code_challenge},
        )
        row = await cursor.fetchone()
    if row is None or not row.pop("good"):
        raise LoginCodeInvalidError
    expires_at = row.pop("expires_at")
    return LoginCode(_hash(code), code_challenge, expires_at, ProvenIdentity(**row))


async def purge_codes(conn: Connection, limit: int) -> int:
    """Delete codes that were not exchanged, and return the count."""
    cursor = await conn.execute(
        """
        DELETE FROM identity_codes
         WHERE code_hash IN (SELECT code_hash FROM identity_codes WHERE expires_at <= now()
                              ORDER BY expires_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
        """,
        {"limit": limit},
    )
    return cursor.rowcount


def _hash(code: str) -> bytes:
    return hashlib.sha256(code.encode("utf-8", "replace")).digest()
