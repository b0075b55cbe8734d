"""Codes of an authenticator app (TOTP, RFC 6238).

A code is of 30 seconds, and one step of drift is allowed either way. Each code is taken once, by a compare-and-set on
the newest step (RFC 6238, section 5.2), however many requests bring it at once.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import pyotp
from psycopg.rows import class_row

from regsvc.errors import RegsvcError
from regsvc.postgres.connection import Connection
from regsvc.security.seals import seal, unseal
from regsvc.security.tokens import Secrets

SETUP_LIFE = timedelta(minutes=15)
STEP = 30  # seconds
DRIFT = 1  # steps

SEAL = "totp-seal"
_SECRET_CHARACTERS = 32  # of base32: 160 bits, as RFC 4226, section 4 (R6), recommends


class TotpNotBegunError(RegsvcError):
    """Start the setup of the authenticator app again: this one has expired, or is not of this session."""

    code = "totp_not_begun"


class TotpCodeInvalidError(RegsvcError):
    """This code is wrong. Check that the time of your phone is right, then enter the newest code."""

    code = "code_invalid"


class TotpMissingError(RegsvcError):
    """This account has no authenticator app."""

    code = "totp_missing"


@dataclass(frozen=True)
class TotpInUse:
    """An authenticator app in use.

    Args:
        created_at: when its first code was given.
        recovery_codes: number of recovery codes that are left.
    """

    created_at: datetime
    recovery_codes: int


@dataclass(frozen=True, repr=False)
class _Stored:
    sealed: bytes
    sealed_with: str
    now: float  # by the database's clock, in seconds since 1970


@dataclass(frozen=True, repr=False)
class Setup:
    """An authenticator app that is being set up.

    Args:
        secret: the shared secret, in base32.
    """

    secret: str

    def uri(self, *, issuer: str, account: str) -> str:
        """Return the `otpauth:` URI that an app reads (Google's key URI format).

        Args:
            issuer: the service's name.
            account: the user's address.
        """
        return pyotp.TOTP(self.secret).provisioning_uri(name=account, issuer_name=issuer)


async def begin_setup(conn: Connection, secrets: Secrets, user_id: UUID, session_id: UUID) -> Setup:
    """Make a secret that waits for its first code. An app that is in use stays in use until then."""
    secret = pyotp.random_base32(_SECRET_CHARACTERS)
    await conn.execute(
        """
        INSERT INTO totp_setups AS s (user_id, session_id, sealed, sealed_with, expires_at)
        VALUES (%(user_id)s, %(session_id)s, %(sealed)s, %(sealed_with)s, now() + %(life)s)
        ON CONFLICT (user_id) DO UPDATE
           SET session_id = excluded.session_id, sealed = excluded.sealed, sealed_with = excluded.sealed_with,
               expires_at = excluded.expires_at
        """,
        {
            "user_id": user_id,
            "session_id": session_id,
            "sealed": seal(secrets, SEAL, secret.encode(), bound=user_id.bytes),
            "sealed_with": secrets.fingerprint,
            "life": SETUP_LIFE,
        },
    )
    return Setup(secret)


async def find_setup(conn: Connection, secrets: Secrets, user_id: UUID, session_id: UUID) -> Setup | None:
    """Return the setup that a session has begun, or None if it has none or its time is over."""
    stored = await _find_setup(conn, user_id, session_id)
    return None if stored is None else Setup(_open(secrets, user_id, stored))


async def confirm_setup(
    conn: Connection, secrets: Secrets, user_id: UUID, session_id: UUID, code: str
) -> None:
    """Put an app into use by its first code, in the caller's transaction; it replaces the one before.

    Raises:
        TotpNotBegunError: this session has begun no setup, or another request has finished it.
        TotpCodeInvalidError: the code is not of this app.
    """
    stored = await _find_setup(conn, user_id, session_id, lock=True)
    if stored is None:
        raise TotpNotBegunError
    step = find_step(_open(secrets, user_id, stored), code, stored.now)
    if step is None:
        raise TotpCodeInvalidError
    await conn.execute("DELETE FROM totp_setups WHERE user_id = %(id)s", {"id": user_id})
    await conn.execute(
        """
        INSERT INTO totp_authenticators AS t (user_id, sealed, sealed_with, last_step)
        VALUES (%(user_id)s, %(sealed)s, %(sealed_with)s, %(step)s)
        ON CONFLICT (user_id) DO UPDATE
           SET sealed = excluded.sealed, sealed_with = excluded.sealed_with, last_step = excluded.last_step,
               created_at = now()
        """,
        {
            "user_id": user_id,
            "sealed": stored.sealed,
            "sealed_with": stored.sealed_with,
            "step": step,
        },
    )


async def take_totp(conn: Connection, secrets: Secrets, user_id: UUID, code: str) -> bool:
    """Take a code of a user's app, in the caller's transaction, and return whether it was right and new.

    A secret that was sealed with the previous key is sealed again.

    Args:
        conn: in a transaction.
        secrets: open the seal.
        user_id: the user.
        code: six ASCII digits.
    """
    stored = await _fetch(
        conn,
        """
        SELECT sealed, sealed_with, extract(epoch FROM clock_timestamp())::float8 AS now
          FROM totp_authenticators WHERE user_id = %(user_id)s
        """,
        {"user_id": user_id},
    )
    if stored is None:
        return False
    secret = _open(secrets, user_id, stored)
    step = find_step(secret, code, stored.now)
    if step is None:
        return False
    sealed = stored.sealed
    if stored.sealed_with != secrets.fingerprint:
        sealed = seal(secrets, SEAL, secret.encode(), bound=user_id.bytes)
    cursor = await conn.execute(
        """
        UPDATE totp_authenticators SET last_step = %(step)s, sealed = %(sealed)s, sealed_with = %(sealed_with)s
         WHERE user_id = %(user_id)s AND last_step < %(step)s
        """,
        {"user_id": user_id, "step": step, "sealed": sealed, "sealed_with": secrets.fingerprint},
    )
    return cursor.rowcount > 0


def find_step(secret: str, code: str, now: float) -> int | None:
    """Return the time step that a code is of, the newest first, or None if it is of none that is allowed.

    Args:
        secret: in base32.
        code: six ASCII digits.
        now: seconds since 1970.
    """
    made = pyotp.TOTP(secret, interval=STEP)
    newest = int(now // STEP) + DRIFT
    # All are compared, in constant time.
    found = [
        step
        for step in range(newest, newest - 2 * DRIFT - 1, -1)
        if hmac.compare_digest(made.generate_otp(step), code)
    ]
    return found[0] if found else None


async def find_totp(conn: Connection, user_id: UUID) -> TotpInUse | None:
    """Return what is told of a user's app, or None if there is none."""
    async with conn.cursor(row_factory=class_row(TotpInUse)) as cursor:
        await cursor.execute(
            """
            SELECT created_at,
                   (SELECT count(*) FROM recovery_codes c WHERE c.user_id = t.user_id) AS recovery_codes
              FROM totp_authenticators t WHERE user_id = %(id)s
            """,
            {"id": user_id},
        )
        return await cursor.fetchone()


async def remove_totp(conn: Connection, user_id: UUID, since: datetime | None = None) -> int:
    """Remove a user's app, or one added since a moment, in the caller's transaction, and return the number.

    A setup that waits for its first code goes in any case.
    """
    await conn.execute("DELETE FROM totp_setups WHERE user_id = %(id)s", {"id": user_id})
    cursor = await conn.execute(
        """
        DELETE FROM totp_authenticators
         WHERE user_id = %(id)s AND (%(since)s::timestamptz IS NULL OR created_at >= %(since)s)
        """,
        {"id": user_id, "since": since},
    )
    return cursor.rowcount


async def purge_totp_setups(conn: Connection, limit: int) -> int:
    """Delete setups whose time is over, and return the count."""
    cursor = await conn.execute(
        """
        DELETE FROM totp_setups
         WHERE user_id IN (SELECT user_id FROM totp_setups WHERE expires_at <= now()
                            ORDER BY expires_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
        """,
        {"limit": limit},
    )
    return cursor.rowcount


async def _find_setup(
    conn: Connection, user_id: UUID, session_id: UUID, *, lock: bool = False
) -> _Stored | None:
    return await _fetch(
        conn,
        f"""
        SELECT sealed, sealed_with, extract(epoch FROM clock_timestamp())::float8 AS now
          FROM totp_setups
         WHERE user_id = %(user_id)s AND session_id = %(session_id)s AND expires_at > now()
        {"FOR UPDATE" if lock else ""}
        """,  # noqa: S608 - a literal
        {"user_id": user_id, "session_id": session_id},
    )


async def _fetch(conn: Connection, statement: str, values: dict[str, object]) -> _Stored | None:
    async with conn.cursor(row_factory=class_row(_Stored)) as cursor:
        await cursor.execute(statement.encode(), values)
        return await cursor.fetchone()


def _open(secrets: Secrets, user_id: UUID, stored: _Stored) -> str:
    return unseal(secrets, SEAL, stored.sealed, bound=user_id.bytes).decode()
