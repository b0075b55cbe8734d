"""The ways into an account that do not need its mailbox, of which the last one is kept."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from psycopg.rows import class_row

from regsvc.errors import RegsvcError
from regsvc.postgres.connection import Connection
from regsvc.security.no_password import NO_PASSWORD


class LastWayInError(RegsvcError):
    """This is the only way into your account. Set a password or add another way first."""

    code = "last_way_in"


@dataclass(frozen=True)
class WaysIn:
    """The ways into an account.

    Args:
        password: whether it has one.
        passkeys: their number.
        identities: their number.
    """

    password: bool
    passkeys: int
    identities: int

    @property
    def number(self) -> int:
        """Return how many there are."""
        return self.password + self.passkeys + self.identities


async def list_ways_in(conn: Connection, user_id: UUID) -> WaysIn:
    """Return the ways into an account; none if there is no such user."""
    async with conn.cursor(row_factory=class_row(WaysIn)) as cursor:
        await cursor.execute(
            """
            SELECT password_hash NOT LIKE %(no_password)s AS password,
                   (SELECT count(*) FROM passkeys WHERE user_id = users.id) AS passkeys,
                   (SELECT count(*) FROM identities WHERE user_id = users.id) AS identities
              FROM users
             WHERE id = %(user_id)s
            """,
            {"user_id": user_id, "no_password": NO_PASSWORD},
        )
        return await cursor.fetchone() or WaysIn(password=False, passkeys=0, identities=0)


async def keep_a_way_in(conn: Connection, user_id: UUID) -> None:
    """Ensure that a way in remains when one is removed, in the caller's transaction; call it before the removal.

    Raises:
        LastWayInError: there is only one.
    """
    # Removals at the same time wait for each other here; the next statement sees what they left.
    await conn.execute("SELECT FROM users WHERE id = %(id)s FOR NO KEY UPDATE", {"id": user_id})
    if (await list_ways_in(conn, user_id)).number <= 1:
        raise LastWayInError
