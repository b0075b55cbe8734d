"""The proof that a session gave of its user again, which holds for some minutes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from psycopg.rows import class_row, scalar_row

from regsvc.accounts.factors.methods import FactorInvalidError, Method
from regsvc.accounts.sessions.session import ALIVE
from regsvc.accounts.users.user import CREDENTIALS, Credentials
from regsvc.errors import RegsvcError
from regsvc.postgres.connection import Connection

PROOF_LIFE = timedelta(minutes=5)


_NO_METHOD = (
    "This account has no password, passkey or app to prove it with. "
    "Choose a password by /api/v1/password/forgot, log in with it, then try again."
)


class ProofNeededError(RegsvcError):
    """Prove that it is you at /api/v1/me/proof, then try again."""

    code = "proof_needed"

    def __init__(self, methods: Sequence[Method]) -> None:
        """Args: methods: by which this user can prove it; none if the mailbox is the only way in."""
        super().__init__(*() if methods else (_NO_METHOD,))
        self.members = {"methods": list(methods)}


class WrongCodeError(FactorInvalidError):
    """This code is wrong or was already used."""

    code = "wrong_code"


@dataclass(frozen=True, repr=False)
class ProvedCredentials(Credentials):
    """The credentials of a session's user, and until when its proof holds; None if it gave none."""

    proved_until: datetime | None


async def find_proof(conn: Connection, session_id: UUID) -> ProvedCredentials | None:
    """Return the credentials of a live session's user with the session's proof, or None if it has ended."""
    async with conn.cursor(row_factory=class_row(ProvedCredentials)) as cursor:
        await cursor.execute(
            f"""
            SELECT {CREDENTIALS}, CASE WHEN s.proved_until > now() THEN s.proved_until END AS proved_until
              FROM sessions s
              JOIN users u ON u.id = s.user_id AND u.disabled_at IS NULL
             WHERE s.id = %(id)s AND {ALIVE}
            """,  # noqa: S608 - constants
            {"id": session_id},
        )
        return await cursor.fetchone()


async def keep_proof(conn: Connection, session_id: UUID, amr: Sequence[str]) -> datetime:
    """Note that a session has proved its user again, and return until when that holds.

    Args:
        conn: in the transaction of the proof.
        session_id: of the session.
        amr: what was proved (RFC 8176); the session's tokens say so from now on.
    """
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(
            """
            UPDATE sessions
               SET proved_until = now() + %(life)s, auth_time = now(),
                   amr = ARRAY(SELECT DISTINCT a FROM unnest(amr || %(amr)s::text[]) AS a ORDER BY a)
             WHERE id = %(id)s
            RETURNING proved_until
            """,
            {"id": session_id, "amr": list(amr), "life": PROOF_LIFE},
        )
        until: datetime | None = await cursor.fetchone()
    assert until is not None  # noqa: S101 - sessions are deleted a month after they ended
    return until
