"""Making an attempt a user. Who may ask for it is known elsewhere: `confirmation` for those who read the mail."""

from __future__ import annotations

from uuid import UUID, uuid4

from psycopg.rows import scalar_row

from regsvc.accounts.audit.record import By, record
from regsvc.accounts.registrations.registration import (
    LINK_LIFE,
    STATE_CHANNEL,
    RegistrationNotFoundError,
    RegistrationOverError,
    alive,
)
from regsvc.errors import RegsvcError
from regsvc.postgres.connection import Connection

LIVE = f"state <> 'confirmed' AND {alive()}"


class AddressTakenError(RegsvcError):
    """This address has an account already."""

    code = "address_taken"


async def lock_address(conn: Connection, email_key: str) -> None:
    """Keep everybody else from turning attempts of an address into its account, or undoing that, meanwhile."""
    await conn.execute("SELECT pg_advisory_xact_lock(hashtextextended(%(key)s, 0))", {"key": email_key})


async def enrol(conn: Connection, registration_id: UUID, email_key: str, by: By) -> UUID:
    """Make the attempt a user, show it as confirmed, and return the user's id; the caller has locked the address.

    Raises:
        AddressTakenError: the address has an account by another attempt, or this one ended meanwhile.
    """
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(
            f"""
            INSERT INTO users (id, email, email_key, name, locale, password_hash)
            SELECT %(user_id)s, email, email_key, name, locale, password_hash
              FROM registrations
             WHERE id = %(id)s AND email_key = %(email_key)s AND {LIVE}
            ON CONFLICT (email_key) DO NOTHING
            RETURNING id
            """,  # noqa: S608 - a constant of this module
            {"user_id": uuid4(), "id": registration_id, "email_key": email_key},
        )
        user_id: UUID | None = await cursor.fetchone()
    if user_id is None:
        raise AddressTakenError
    await conn.execute(
        """
        WITH moved AS (
            UPDATE registrations
               SET state = 'confirmed', seq = seq + 1, password_hash = NULL, next_try_at = NULL, reason = NULL,
                   changed_at = now(), expires_at = coalesce(expires_at, now() + %(life)s)
             WHERE id = %(id)s
            RETURNING id, seq
        )
        SELECT pg_notify(%(channel)s, id || ':' || seq) FROM moved
        """,
        {"id": registration_id, "life": LINK_LIFE, "channel": STATE_CHANNEL},
    )
    await record(conn, "account_created", by, user_id=user_id, registration=str(registration_id))
    return user_id


async def enrol_by_hand(conn: Connection, registration_id: UUID, by: By) -> UUID:
    """Make an attempt a user on the word of whoever runs the service, and return the user's id.

    Raises:
        RegistrationNotFoundError: there is none of that id.
        RegistrationOverError: it is confirmed, expired or voided.
        AddressTakenError: its address has an account already.
    """
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute("SELECT email_key FROM registrations WHERE id = %(id)s", {"id": registration_id})
        email_key = await cursor.fetchone()
        if email_key is None:
            raise RegistrationNotFoundError
        await lock_address(conn, email_key)
        await cursor.execute(
            f"SELECT true FROM registrations WHERE id = %(id)s AND email_key = %(email_key)s AND {LIVE}",  # noqa: S608
            {"id": registration_id, "email_key": email_key},
        )
        if await cursor.fetchone() is None:
            raise RegistrationOverError
    return await enrol(conn, registration_id, email_key, by)
