"""Challenges that passkeys answer: random, for one use, valid for ten minutes."""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import Literal, TypeAlias
from uuid import UUID

from regsvc.errors import RegsvcError
from regsvc.postgres.connection import Connection

# A person may look for a key or a phone meanwhile (Web Authentication level 3, 15.1, recommends five to ten minutes).
LIFE = timedelta(minutes=10)
LIFE_SECONDS = int(LIFE.total_seconds())
_BYTES = 32

# `login` also serves the second factor and the confirmation of a sign-up: whose answer it is is not known before.
Purpose: TypeAlias = Literal["login", "proof", "add", "signup"]


class PasskeyExpiredError(RegsvcError):
    """This took too long, or the answer was used before. Try again."""

    code = "passkey_expired"


async def add_challenge(conn: Connection, purpose: Purpose, user_id: UUID | None = None) -> bytes:
    """Store a new challenge and return it.

    Args:
        conn: for the statement.
        purpose: what its answer will be good for, and nothing else.
        user_id: the user whose answer alone it takes; of `signup`, who will be the user.
    """
    challenge = secrets.token_bytes(_BYTES)
    await conn.execute(
        """
        INSERT INTO passkey_challenges (challenge, purpose, user_id, expires_at)
        VALUES (%(challenge)s, %(purpose)s, %(user_id)s, now() + %(life)s)
        """,
        {"challenge": challenge, "purpose": purpose, "user_id": user_id, "life": LIFE},
    )
    return challenge


async def take_challenge(
    conn: Connection, challenge: bytes, purpose: Purpose, user_id: UUID | None = None
) -> UUID | None:
    """Use a challenge up: of several requests with it, one gets past here.

    Args:
        conn: not in a transaction: a challenge is used up whatever becomes of its answer.
        challenge: that the answer claims to be for.
        purpose: what the answer is used for.
        user_id: the user whose answer it has to be; None for challenges of any user.

    Returns:
        The user that the challenge was made for, if any.

    Raises:
        PasskeyExpiredError: no such challenge waits for an answer.
    """
    cursor = await conn.execute(
        """
        DELETE FROM passkey_challenges
         WHERE challenge = %(challenge)s AND purpose = %(purpose)s AND expires_at > now()
           AND (%(user_id)s::uuid IS NULL OR user_id = %(user_id)s)
        RETURNING user_id
        """,
        {"challenge": challenge, "purpose": purpose, "user_id": user_id},
    )
    row = await cursor.fetchone()
    if row is None:
        raise PasskeyExpiredError
    found: UUID | None = row[0]
    return found


async def purge_challenges(conn: Connection, limit: int) -> int:
    """Delete expired challenges, and return the count."""
    cursor = await conn.execute(
        """
        DELETE FROM passkey_challenges
         WHERE challenge IN (SELECT challenge FROM passkey_challenges WHERE expires_at <= now()
                              ORDER BY expires_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
        """,
        {"limit": limit},
    )
    return cursor.rowcount
