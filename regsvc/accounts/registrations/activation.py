"""Activation: make a sign-up attempt a user. Its callers, such as `confirmation`, decide who may."""

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
from regsvc.mail.queue.families import find_family
from regsvc.metrics import CONFIRMED_AFTER
from regsvc.postgres.connection import Connection

LIVE = f"state <> 'confirmed' AND ended_key IS DISTINCT FROM email_key AND {alive()}"


class AddressTakenError(RegsvcError):
    """This address already has an account."""

    code = "address_taken"


async def lock_address(conn: Connection, email_key: str) -> None:
    """Lock the address against concurrent activation."""
    await conn.execute("SELECT pg_advisory_xact_lock(hashtextextended(%(key)s, 0))", {"key": email_key})


async def activate(conn: Connection, registration_id: UUID, email_key: str, by: By) -> UUID:
    """Activate an attempt, show it as confirmed, and return the user's id; the caller has locked the address.

    The passkey or the identity of a sign-up without a password becomes the user's, unless an account has it already.

    Raises:
        AddressTakenError: another attempt has activated the address, or this attempt has ended.
    """
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(
            f"""
            INSERT INTO users (id, email, email_key, name, locale, password_hash, terms, terms_at, app_data)
            SELECT coalesce((SELECT p.user_id FROM registration_passkeys p WHERE p.registration_id = %(id)s),
                            %(user_id)s),
                   email, email_key, name, locale, password_hash, terms,
                   CASE WHEN terms IS NOT NULL THEN created_at END, app_data
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
    cursor = await conn.execute(
        """
        WITH moved AS (
            UPDATE registrations
               SET state = 'confirmed', seq = seq + 1, password_hash = NULL, next_try_at = NULL, reason = NULL,
                   changed_at = now(), expires_at = coalesce(expires_at, now() + %(life)s)
             WHERE id = %(id)s
            RETURNING id, seq, email, extract(epoch FROM now() + %(life)s - expires_at)::float8 AS seconds
        ), passkey AS (
            INSERT INTO passkeys (id, user_id, credential_id, public_key, sign_count, synced, transports, name)
            SELECT %(passkey_id)s, user_id, credential_id, public_key, sign_count, synced, transports, name
              FROM registration_passkeys
             WHERE registration_id = %(id)s
            ON CONFLICT (credential_id) DO NOTHING
        ), brought AS (
            DELETE FROM registration_identities WHERE registration_id = %(id)s
            RETURNING provider, issuer, subject, email
        ), identity AS (
            INSERT INTO identities (id, user_id, provider, issuer, subject, email)
            SELECT %(identity_id)s, %(user_id)s, provider, issuer, subject, email FROM brought
            ON CONFLICT (issuer, subject) DO NOTHING
        )
        SELECT email, seconds, pg_notify(%(channel)s, id || ':' || seq) FROM moved
        """,
        {
            "id": registration_id,
            "user_id": user_id,
            "passkey_id": uuid4(),
            "identity_id": uuid4(),
            "life": LINK_LIFE,
            "channel": STATE_CHANNEL,
        },
    )
    email, seconds, _ = await cursor.fetchone() or ("", 0.0, None)
    if seconds > 0 and by.actor == "anonymous":  # its mail's acceptance is known, and its reader confirmed
        CONFIRMED_AFTER.labels(find_family(email.rpartition("@")[2])).observe(seconds)
    await record(conn, "account_created", by, user_id=user_id, registration=str(registration_id))
    return user_id


async def activate_by_hand(conn: Connection, registration_id: UUID, by: By) -> UUID:
    """Activate an attempt by decision of an operator, and return the user's id.

    Raises:
        RegistrationNotFoundError: no registration has this id.
        RegistrationOverError: the registration is confirmed, expired or voided.
        AddressTakenError: the address already has an account.
    """
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(
            "SELECT email_key FROM registrations WHERE id = %(id)s AND login_key IS NULL",
            {"id": registration_id},
        )
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
    return await activate(conn, registration_id, email_key, by)
