"""What the reader of a mail may see of the attempt that it is about; nothing here changes anything."""

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
    """Somebody pressed "this was not me": this link confirms nothing any more."""

    code = "token_void"


@dataclass(frozen=True)
class Preview:
    """An attempt to sign up, as its mail tells of it.

    Args:
        email: where the mail went.
        email_key: the address as it is compared.
        state: of the attempt.
        alive: its link still answers.
        origin: the network prefix that it came from.
        client: a short word for the software that it came from.
        created_at: when it came.
    """

    email: str
    email_key: str
    state: State
    alive: bool
    origin: str
    client: str
    created_at: datetime


async def preview_link(conn: Connection, secrets: Secrets, token: LinkToken) -> Preview:
    """Return the attempt that a link confirms, or has confirmed.

    Raises:
        TokenInvalidError: no such attempt, or not mailed to its present address.
        TokenExpiredError: the link is too old.
        TokenVoidError: its reader said that it was not theirs.
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
    """Return the address that an attempt, whose handle the caller has checked, writes to."""
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute("SELECT email FROM registrations WHERE id = %(id)s", {"id": registration_id})
        return await cursor.fetchone()
