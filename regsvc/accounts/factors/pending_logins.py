"""Logins whose first step has passed and whose second factor is awaited.

The client holds a random token; the database holds its digest. It is good for five minutes, five tries and one success.
"""

from __future__ import annotations

import hashlib
import secrets as random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from regsvc.accounts.audit.record import RECORDED, By, event_values
from regsvc.accounts.factors.methods import Method
from regsvc.accounts.limits.login_attempts import LoginTry
from regsvc.accounts.sessions.refresh_token import CredentialsChangedError
from regsvc.accounts.users.user import CREDENTIALS, Credentials
from regsvc.errors import RegsvcError
from regsvc.postgres.connection import Connection

LIFE = timedelta(minutes=5)
TRIES = 5

_TOKEN_BYTES = 32


class SecondFactorRequiredError(RegsvcError):
    """A second factor is required. Send it with `mfa_token` to /api/v1/login/second-factor."""

    code = "second_factor_required"

    def __init__(self, mfa_token: str, methods: Sequence[Method]) -> None:
        """Args: mfa_token: stands for the first step. methods: what may follow it."""
        super().__init__()
        self.mfa_token = mfa_token
        self.members = {"mfa_token": mfa_token, "methods": list(methods)}


class MfaTokenInvalidError(RegsvcError):
    """This login has expired, was completed, or had too many attempts. Log in again."""

    code = "mfa_token_invalid"


@dataclass(frozen=True, repr=False)
class PendingLogin(Credentials):
    """A login that awaits its second factor: the user's credentials, which are those of the first step, and more.

    Args:
        amr: what the first step proved (RFC 8176).
        attempt: the counted login attempt of the first step.
    """

    amr: list[str]
    attempt: dict[str, Any] | None

    @property
    def tried(self) -> LoginTry | None:
        """The counted login attempt of the first step, to be forgiven."""
        return None if self.attempt is None else _read_attempt(self.attempt)


_FOUND = f"""
    SELECT {CREDENTIALS}, p.amr, p.attempt
      FROM pending_logins p
      JOIN users u ON u.id = p.user_id AND u.disabled_at IS NULL
                  AND sha256(convert_to(u.password_hash, 'UTF8')) = p.password_digest
     WHERE p.token_hash = %(hash)s AND p.expires_at > now() AND p.tries < %(tries)s
"""  # noqa: S608 - a constant


async def begin_second_step(
    conn: Connection, credentials: Credentials, *, amr: Sequence[str], tried: LoginTry | None, by: By
) -> str:
    """Note that the first step of a login has passed, and return the token of the second.

    Args:
        conn: for the statement, which is a transaction by itself.
        credentials: what the first step was checked against.
        amr: what it proved (RFC 8176).
        tried: the counted attempt; None where no limits apply.
        by: the client.

    Raises:
        CredentialsChangedError: the user may no longer log in with these credentials.
    """
    token = random.token_urlsafe(_TOKEN_BYTES)
    cursor = await conn.execute(
        f"""
        WITH begun AS (
            INSERT INTO pending_logins (token_hash, user_id, password_digest, amr, expires_at, attempt)
            SELECT %(hash)s, id, sha256(convert_to(password_hash, 'UTF8')), %(amr)s, now() + %(life)s, %(attempt)s
              FROM users
             WHERE id = %(event_user_id)s AND password_hash = %(password_hash)s AND disabled_at IS NULL
            RETURNING user_id
        ), recorded AS ({RECORDED.format("begun")})
        SELECT FROM begun
        """,  # noqa: S608 - constants
        event_values("second_factor_asked", by, user_id=credentials.user_id)
        | {
            "hash": _digest(token),
            "amr": list(amr),
            "life": LIFE,
            "attempt": None if tried is None else Jsonb(_write_attempt(tried)),
            "password_hash": credentials.password_hash,
        },
    )
    if cursor.rowcount == 0:
        raise CredentialsChangedError
    return token


async def find_pending_login(conn: Connection, token: str) -> PendingLogin:
    """Return the login that a token stands for.

    Raises:
        MfaTokenInvalidError: there is none, or it is over.
    """
    async with conn.cursor(row_factory=class_row(PendingLogin)) as cursor:
        await cursor.execute(_FOUND.encode(), {"hash": _digest(token), "tries": TRIES})
        found = await cursor.fetchone()
    if found is None:
        raise MfaTokenInvalidError
    return found


async def count_try(conn: Connection, token: str) -> None:
    """Count a try before its factor is checked.

    Args:
        conn: not in a transaction: the try counts whatever follows.
        token: of the login.

    Raises:
        MfaTokenInvalidError: it was completed, or had its tries.
    """
    cursor = await conn.execute(
        """
        UPDATE pending_logins SET tries = tries + 1
         WHERE token_hash = %(hash)s AND expires_at > now() AND tries < %(tries)s
        """,
        {"hash": _digest(token), "tries": TRIES},
    )
    if cursor.rowcount == 0:
        raise MfaTokenInvalidError


async def complete_second_step(conn: Connection, token: str) -> None:
    """End a login whose second factor was right, in the transaction that starts the session.

    Raises:
        MfaTokenInvalidError: another request has completed it.
    """
    cursor = await conn.execute(
        "DELETE FROM pending_logins WHERE token_hash = %(hash)s", {"hash": _digest(token)}
    )
    if cursor.rowcount == 0:
        raise MfaTokenInvalidError


async def purge_pending_logins(conn: Connection, limit: int) -> int:
    """Delete logins whose time is over, and return the count."""
    cursor = await conn.execute(
        """
        DELETE FROM pending_logins
         WHERE token_hash IN (SELECT token_hash FROM pending_logins WHERE expires_at <= now()
                               ORDER BY expires_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
        """,
        {"limit": limit},
    )
    return cursor.rowcount


def _digest(token: str) -> bytes:
    """Return the bytes by which the database recognises a token of 256 random bits."""
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()


def _write_attempt(tried: LoginTry) -> dict[str, str | None]:
    return {
        "counted": tried.counted.hex(),
        "at": tried.at.isoformat(),
        "before": None if tried.before is None else tried.before.isoformat(),
        "address": tried.address.hex(),
        "client": tried.client.hex(),
        "network": tried.network.hex(),
    }


def _read_attempt(written: dict[str, Any]) -> LoginTry:
    before = written["before"]
    return LoginTry(
        bytes.fromhex(written["counted"]),
        datetime.fromisoformat(written["at"]),
        None if before is None else datetime.fromisoformat(before),
        *(bytes.fromhex(written[name]) for name in ("address", "client", "network")),
    )
