"""The access token of SMTP: one sealed row, renewed at three quarters of its life by one process under a lease."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import structlog
import trio
from psycopg.rows import dict_row

from regsvc.config.settings import Settings
from regsvc.errors import DatabaseUnavailableError
from regsvc.mail.smtp.access_token import BOUND, SEAL, AccessToken, fetch_token
from regsvc.mail.smtp.login import TokenUnavailableError
from regsvc.postgres.connection import Connection
from regsvc.postgres.pool import Pool
from regsvc.security.seals import UnsealError, seal, unseal
from regsvc.security.tokens import Secrets
from regsvc.waiting import wait_any

log = structlog.get_logger()

_LEASE: Final = timedelta(seconds=30)
"""Time that a renewal may take, and between two that fail."""
_LOOK: Final = 5.0  # seconds between looks at the row
_RENEW_AT: Final = 0.75


async def run_token(
    *,
    pool: Pool,
    settings: Settings,
    secrets: Secrets,
    stopping: trio.Event,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Keep the token fresh until `stopping` is set.

    Raises:
        DatabaseUnavailableError: the database is unavailable.
    """
    task_status.started()
    while not stopping.is_set():
        await renew(pool, settings, secrets)
        await wait_any(stopping.wait, seconds=_LOOK)


async def renew(pool: Pool, settings: Settings, secrets: Secrets) -> None:
    """Renew the token if that is due and no other process does it."""
    async with pool.connection() as conn:
        if not await take_lease(conn):
            return
    try:
        token = await fetch_token(settings)
    except TokenUnavailableError as error:
        log.warning("access token of SMTP not renewed", reason=str(error))
        async with pool.connection() as conn:
            await conn.execute(
                "UPDATE smtp_tokens SET problem = %s, refused = %s WHERE id = 1", (str(error), error.refused)
            )
        return
    async with pool.connection() as conn:
        await store(conn, secrets, token)
    log.info("access token of SMTP renewed", seconds=round(token.seconds))


async def take_lease(conn: Connection) -> bool:
    """Take the lease if the token is to be renewed and the lease is free, and return whether it was taken."""
    cursor = await conn.execute(
        """
        UPDATE smtp_tokens SET leased_until = now() + %(lease)s
         WHERE id = 1 AND renew_at <= now() AND leased_until <= now()
        """,
        {"lease": _LEASE},
    )
    return cursor.rowcount == 1


async def store(conn: Connection, secrets: Secrets, token: AccessToken) -> None:
    """Store a token, sealed, and free the lease."""
    await conn.execute(
        """
        UPDATE smtp_tokens
           SET sealed = %(sealed)s, sealed_with = %(sealed_with)s, expires_at = now() + %(life)s,
               renew_at = now() + %(renew)s, leased_until = now(), problem = NULL, refused = false
         WHERE id = 1
        """,
        {
            "sealed": seal(secrets, SEAL, token.text.encode(), bound=BOUND),
            "sealed_with": secrets.fingerprint,
            "life": timedelta(seconds=token.seconds),
            "renew": timedelta(seconds=token.seconds * _RENEW_AT),
        },
    )


@dataclass(frozen=True)
class StoredToken:
    """The token in the database, as a `TokenSource`.

    Args:
        pool: PostgreSQL.
        secrets: open the seal.
    """

    pool: Pool
    secrets: Secrets

    async def get(self) -> str:
        """Return the token.

        Raises:
            TokenUnavailableError: there is none that is valid.
        """
        try:
            found = await self._read()
        except DatabaseUnavailableError as error:
            raise TokenUnavailableError("the database is unavailable") from error
        if found is None or found["sealed"] is None:
            problem, refused = (found["problem"], found["refused"]) if found else (None, False)
            raise TokenUnavailableError(
                problem or "the access token has not been fetched yet", refused=refused
            )
        try:
            return unseal(self.secrets, SEAL, found["sealed"], bound=BOUND).decode()
        except UnsealError as error:
            raise TokenUnavailableError("the access token was sealed with another secret key") from error

    async def _read(self) -> dict[str, Any] | None:
        async with self.pool.connection() as conn, conn.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(
                "SELECT sealed, problem, refused FROM smtp_tokens WHERE id = 1 AND expires_at > now()"
                " UNION ALL SELECT NULL, problem, refused FROM smtp_tokens WHERE id = 1 LIMIT 1"
            )
            return await cursor.fetchone()
