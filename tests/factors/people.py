"""Users with an authenticator app, as tests need them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from uuid import UUID, uuid4

import httpx
import pyotp

from regsvc.accounts.factors import totp
from regsvc.accounts.factors.recovery_codes import renew_recovery_codes
from regsvc.postgres.connection import Connection
from regsvc.postgres.pool import Pool
from regsvc.security.seals import seal
from regsvc.security.tokens import Secrets
from tests.services import PASSWORD, SECRET, Service

SECRETS = Secrets(SECRET.encode())


@dataclass
class Owner:
    """A user with an authenticator app.

    Args:
        user_id: the user.
        secret: of the app, in base32.
        recovery_codes: as they were shown.
    """

    user_id: UUID
    secret: str
    recovery_codes: list[str]

    def code(self, steps: int = 0) -> str:
        """The app's code, so many steps from now."""
        return pyotp.TOTP(self.secret).generate_otp(int(time.time() // 30) + steps)

    def wrong_code(self) -> str:
        """Six digits that are none of the app's codes at this time."""
        near = {self.code(steps) for steps in range(-3, 4)}
        return next(code for code in map("{:06}".format, range(100)) if code not in near)


async def own_app(conn: Connection, user_id: UUID, secrets: Secrets = SECRETS) -> Owner:
    """Give a user an app that has made no code yet, and recovery codes."""
    secret = pyotp.random_base32(32)
    await conn.execute(
        "INSERT INTO totp_authenticators (user_id, sealed, sealed_with, last_step) VALUES (%s, %s, %s, 0)",
        [
            user_id,
            seal(secrets, totp.SEAL, secret.encode(), bound=user_id.bytes),
            secrets.fingerprint,
        ],
    )
    return Owner(user_id, secret, await renew_recovery_codes(conn, secrets, user_id))


async def own_app_of(pool: Pool, address: str = "ann@example.com") -> Owner:
    """Give the user of an address an app."""
    async with pool.transaction() as conn:
        cursor = await conn.execute("SELECT id FROM users WHERE email = %s", [address])
        row = await cursor.fetchone()
        assert row is not None
        return await own_app(conn, row[0])


async def add_owner(pool: Pool, secrets: Secrets = SECRETS) -> Owner:
    """Insert a user with an app."""
    user_id = uuid4()
    async with pool.transaction() as conn:
        await conn.execute(
            "INSERT INTO users (id, email, email_key, name, password_hash) VALUES (%s, %s, %s, 'A', 'hash')",
            [user_id, f"{user_id}@example.com", f"{user_id}@example.com"],
        )
        return await own_app(conn, user_id, secrets)


async def begin(service: Service, address: str = "ann@example.com") -> str:
    """Take the first step of a login, and return the token of the second."""
    answer = await service.post("/login", {"email": address, "password": PASSWORD})
    assert answer.status_code == 401, answer.text
    assert answer.json()["code"] == "second_factor_required"
    return str(answer.json()["mfa_token"])


async def finish(service: Service, mfa_token: str, **factor: str) -> httpx.Response:
    """Take the second step of a login."""
    return await service.post("/login/second-factor", {"mfa_token": mfa_token, **factor})
