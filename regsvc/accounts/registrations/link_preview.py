"""Read-only preview of a sign-up attempt for the reader of its message."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg.rows import class_row, scalar_row

from regsvc.accounts.registrations.confirmation import TokenExpiredError, TokenInvalidError
from regsvc.accounts.registrations.registration import State, alive
from regsvc.postgres.connection import Connection
from regsvc.security.tokens import LinkToken, Secrets


class TokenVoidError(TokenExpiredError):
    """The owner of this address reported that they did not sign up. The sign-up was cancelled."""

    code = "token_void"


@dataclass(frozen=True)
class Preview:
    """A sign-up attempt as its message describes it.

    Args:
        email: address of the message.
        email_key: key of the address.
        state: of the attempt.
        alive: whether its link still works.
        origin: network prefix of the client.
        client: short name of the client's software.
        created_at: when the client signed up.
    """

    email: str
    email_key: str
    state: State
    alive: bool
    origin: str
    client: str
    created_at: datetime


async def preview_link(conn: Connection, secrets: Secrets, token: LinkToken) -> Preview:
    """Return the attempt that a link confirms or has confirmed.

    Raises:
        TokenInvalidError: no such attempt, or not mailed to its current address.
        TokenExpiredError: the link expired.
        TokenVoidError: its reader reported that they did not sign up.
    """
    async with conn.cursor(row_factory=class_row(Preview)) as cursor:
        await cursor.execute(
            f"""
            SELECT email, email_key, state, origin, client, created_at, {alive()} AS alive
              FROM registrations WHERE id = %(id)s
            """,  # noqa: S608 - a constant of our own
            {"id": token.registration_id},
        )
        attempt = await cursor.fetchone()
    if attempt is None or not token.proves(secrets, attempt.email_key):
        raise TokenInvalidError
    if attempt.state == "repudiated":
        raise TokenVoidError
    if not attempt.alive:
        raise TokenExpiredError
    return attempt


async def get_recipient(conn: Connection, registration_id: UUID) -> str | None:
    """Return the address of an attempt whose handle the caller has checked."""
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute("SELECT email FROM registrations WHERE id = %(id)s", {"id": registration_id})
        return await cursor.fetchone()
