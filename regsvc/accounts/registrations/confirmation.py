"""Turning an attempt into a user: who pressed the link decides, and nobody else's sign-up does.

While an address has one live attempt, its link confirms it. While it has several, the link proves the address
only: whoever holds the attempt's handle, or gives the password of one of the live attempts, says which becomes
the user. So a stranger who signs up for somebody's address, before or after them, never sets their password.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from psycopg.rows import class_row, scalar_row

from regsvc.accounts.audit.record import ANYONE, By
from regsvc.accounts.limits import mail_schedule
from regsvc.accounts.limits.login_attempts import know_client
from regsvc.accounts.registrations.activation import ALIVE, LIVE, AddressTakenError, enrol, lock_address
from regsvc.accounts.registrations.registration import STATE_CHANNEL, State
from regsvc.errors import RegsvcError
from regsvc.postgres.connection import Connection
from regsvc.security import tokens
from regsvc.security.tokens import LinkToken, Secrets

CODE_TRIES = 5
CODE_TRIES_A_DAY = 30
# A password is tried against this many attempts at most, since each try costs a whole hash: the pressed one, then the
# oldest and the newest in turn, so that it takes a flood on both sides to push one out.
CANDIDATES = 16


class TokenInvalidError(RegsvcError):
    """This link is not one of ours."""

    code = "token_invalid"


class TokenExpiredError(RegsvcError):
    """This link or code is no longer valid. Log in, or sign up again."""

    code = "token_expired"


class PasswordNeededError(RegsvcError):
    """Several sign-ups wait for this address. Give the password that you chose when you signed up."""

    code = "password_needed"


class CodeInvalidError(RegsvcError):
    """This code is wrong."""

    code = "code_invalid"


class CodeTriesExhaustedError(RegsvcError):
    """This code was tried too often. Use the link in the mail instead."""

    code = "code_tries_exhausted"


@dataclass(frozen=True)
class _Attempt:
    id: UUID
    email_key: str
    state: State
    alive: bool  # a final attempt may be: its link still answers
    password_hash: str | None


async def confirm_by_link(
    conn: Connection,
    secrets: Secrets,
    token: LinkToken,
    *,
    chosen: UUID | None = None,
    has_handle: bool = False,
    password_required: bool = False,
    by: By = ANYONE,
) -> bool:
    """Confirm the address that a link was mailed to, inside the caller's transaction.

    Args:
        conn: in a transaction.
        secrets: what the link was made with.
        token: the link's, not yet checked.
        chosen: the live attempt whose password was given.
        has_handle: the one who pressed holds the handle of the link's own attempt.
        password_required: never trust a link alone (CONFIRM_REQUIRES_PASSWORD).
        by: who does.

    Returns:
        True when this call confirmed it, False when that had been done before.

    Raises:
        TokenInvalidError: no such attempt, or not mailed to its present address.
        TokenExpiredError: the link is too old, or its attempt void, or the address has an account by another.
        PasswordNeededError: the link alone does not say whose account this is.
    """
    attempt = await _lock_attempt(conn, secrets, token)
    if attempt.state == "confirmed":
        return False
    winner = chosen
    if winner is None and has_handle:
        winner = attempt.id
    if winner is None:
        if password_required or await _count_live(conn, attempt.email_key) > 1:
            raise PasswordNeededError
        winner = attempt.id
    try:
        await enrol(conn, winner, attempt.email_key, by)
    except AddressTakenError:
        raise TokenExpiredError from None
    await know_client(conn, secrets, attempt.email_key, by)
    return True


async def list_candidates(conn: Connection, secrets: Secrets, token: LinkToken) -> list[tuple[UUID, str]]:
    """Return the live attempts of the link's address with their password hashes, the link's own first.

    Raises:
        TokenInvalidError, TokenExpiredError: as `confirm_by_link`. An attempt that is confirmed has no candidates.
    """
    attempt = await _get_attempt(conn, secrets, token)
    if attempt.state == "confirmed":
        return []
    async with conn.cursor(row_factory=class_row(_Attempt)) as cursor:
        await cursor.execute(
            f"""
            SELECT id, email_key, state, {ALIVE} AS alive, password_hash
              FROM registrations
             WHERE email_key = %(email_key)s AND {LIVE}
             ORDER BY id <> %(id)s,
                      least(row_number() OVER (ORDER BY created_at),
                            row_number() OVER (ORDER BY created_at DESC))
             LIMIT %(limit)s
            """,  # noqa: S608 - constants of this module
            {"email_key": attempt.email_key, "id": attempt.id, "limit": CANDIDATES},
        )
        return [(a.id, a.password_hash) for a in await cursor.fetchall() if a.password_hash is not None]


async def try_code(
    conn: Connection, secrets: Secrets, registration_id: UUID, code: str, by: By = ANYONE
) -> Literal["confirmed", "wrong", "expired", "exhausted"]:
    """Try a code against the mails of an attempt whose handle the caller has checked, in the caller's transaction.

    Answers in words instead of raising, because the try must be committed: five tries, in whatever process.
    An attempt of an address that has an account behaves no differently: nobody ever saw its code.
    """
    async with conn.cursor(row_factory=class_row(_Attempt)) as cursor:
        await cursor.execute(
            f"""
            SELECT id, email_key, state, {ALIVE} AS alive, password_hash
              FROM registrations WHERE id = %(id)s
            """,  # noqa: S608 - a constant of this module
            {"id": registration_id},
        )
        attempt = await cursor.fetchone()
    if attempt is None or not attempt.alive:
        return "expired"
    await lock_address(conn, attempt.email_key)
    counted = await conn.execute(
        """
        UPDATE registrations SET code_tries = code_tries + 1
         WHERE id = %(id)s AND (code_tries < %(most)s OR state = 'confirmed')
        """,
        {"id": registration_id, "most": CODE_TRIES},
    )
    if counted.rowcount == 0 or (
        attempt.state != "confirmed" and not await _count_try(conn, secrets, attempt.email_key)
    ):
        return "exhausted"
    if not tokens.code_matches(
        secrets, await _list_code_mails(conn, registration_id), attempt.email_key, code
    ):
        return "wrong"
    if attempt.state != "confirmed":
        try:
            await enrol(conn, registration_id, attempt.email_key, by)
        except AddressTakenError:
            return "expired"
        await know_client(conn, secrets, attempt.email_key, by)
    return "confirmed"


async def _count_try(conn: Connection, secrets: Secrets, email_key: str) -> bool:
    """Count a try against the address and say whether it is one of today's 30, over all its registrations."""
    cursor = await conn.execute(
        """
        INSERT INTO code_tries AS c (key, tries) VALUES (%(key)s, 1)
        ON CONFLICT (key) DO UPDATE
           SET tries = CASE WHEN c.since <= now() - interval '24 hours' THEN 1 ELSE c.tries + 1 END,
               since = CASE WHEN c.since <= now() - interval '24 hours' THEN now() ELSE c.since END
         WHERE c.tries < %(most)s OR c.since <= now() - interval '24 hours'
        """,
        {"key": mail_schedule.address_key(secrets, email_key), "most": CODE_TRIES_A_DAY},
    )
    return cursor.rowcount > 0


async def repudiate(conn: Connection, secrets: Secrets, token: LinkToken) -> None:
    """Void the attempt that a link was mailed for: its reader says that it was not theirs.

    For 30 days at most one sign-up mail a day goes to that address.

    Raises:
        TokenInvalidError, TokenExpiredError: as `confirm_by_link`.
        AlreadyConfirmedError: it is a user by now.
    """
    attempt = await _lock_attempt(conn, secrets, token, void_is_fine=True)
    if attempt.state == "confirmed":
        raise AlreadyConfirmedError
    await conn.execute(
        """
        WITH moved AS (
            UPDATE registrations
               SET state = 'repudiated', seq = seq + 1, password_hash = NULL, next_try_at = NULL,
                   changed_at = now()
             WHERE id = %(id)s AND state NOT IN ('confirmed', 'expired', 'repudiated')
            RETURNING id, seq
        )
        SELECT pg_notify(%(channel)s, id || ':' || seq) FROM moved
        """,
        {"id": attempt.id, "channel": STATE_CHANNEL},
    )
    # After the registration: whoever sends locks them in this order, too.
    await mail_schedule.quieten(conn, secrets, attempt.email_key)


async def purge_code_tries(conn: Connection, limit: int) -> int:
    """Delete counts of tries that are older than a day, and return how many."""
    cursor = await conn.execute(
        """
        DELETE FROM code_tries
         WHERE key IN (SELECT key FROM code_tries WHERE since <= now() - interval '24 hours'
                        LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
        """,
        {"limit": limit},
    )
    return cursor.rowcount


class AlreadyConfirmedError(RegsvcError):
    """This address has been confirmed already."""

    code = "already_confirmed"


async def _get_attempt(
    conn: Connection, secrets: Secrets, token: LinkToken, *, void_is_fine: bool = False
) -> _Attempt:
    async with conn.cursor(row_factory=class_row(_Attempt)) as cursor:
        await cursor.execute(
            f"""
            SELECT id, email_key, state, {ALIVE} AS alive, password_hash
              FROM registrations WHERE id = %(id)s
            """,  # noqa: S608 - a constant of this module
            {"id": token.registration_id},
        )
        attempt = await cursor.fetchone()
    if attempt is None or not token.proves(secrets, attempt.email_key):
        raise TokenInvalidError
    if not attempt.alive and not (void_is_fine and attempt.state == "repudiated"):
        raise TokenExpiredError
    return attempt


async def _lock_attempt(
    conn: Connection, secrets: Secrets, token: LinkToken, *, void_is_fine: bool = False
) -> _Attempt:
    """Return the attempt as it is once no other confirmation of its address is under way."""
    attempt = await _get_attempt(conn, secrets, token, void_is_fine=void_is_fine)
    await lock_address(conn, attempt.email_key)
    return await _get_attempt(conn, secrets, token, void_is_fine=void_is_fine)


async def _count_live(conn: Connection, email_key: str) -> int:
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(
            f"SELECT count(*) FROM registrations WHERE email_key = %(email_key)s AND {LIVE}",  # noqa: S608
            {"email_key": email_key},
        )
        return await cursor.fetchone() or 0


async def _list_code_mails(conn: Connection, registration_id: UUID) -> Sequence[UUID]:
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(
            """
            SELECT m.id
              FROM mails m
              JOIN registrations r ON r.id = m.registration_id
             WHERE r.id = %(id)s AND m.state <> 'cancelled' AND m.created_at >= r.address_since
            """,
            {"id": registration_id},
        )
        return await cursor.fetchall()
