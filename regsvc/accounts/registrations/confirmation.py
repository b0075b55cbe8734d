"""Confirmation of a sign-up by the link mailed to its address.

The link confirms the attempt if it is the only live one of its address. If there are several, the link proves only the
address: the attempt's handle, or the password of a live attempt, decides which one becomes the user. So a stranger who
signs up with an owner's address, before or after them, never sets the password.

The link alone never confirms an attempt that has a passkey instead of a password: a stranger's passkey would outlive
every reset of a password. Its handle, its code or an assertion of the passkey does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from psycopg.rows import class_row, scalar_row

from regsvc.accounts.audit.record import ANYONE, By
from regsvc.accounts.limits import mail_schedule
from regsvc.accounts.limits.login_attempts import know_client
from regsvc.accounts.registrations.activation import LIVE, AddressTakenError, activate, lock_address
from regsvc.accounts.registrations.registration import STATE_CHANNEL, State, alive
from regsvc.accounts.registrations.signup_passkey import Method, SignupKey, find_signup_key, list_methods
from regsvc.errors import RegsvcError
from regsvc.postgres.connection import Connection
from regsvc.security.no_password import NO_PASSWORD, has_password
from regsvc.security.tokens import LinkToken, Secrets

# Each check costs a whole hash, so at most this many attempts are checked: the link's own, then the oldest and the
# newest in turn. An attacker must flood both sides to displace one.
CANDIDATES = 16


class TokenInvalidError(RegsvcError):
    """This link is invalid."""

    code = "token_invalid"


class TokenExpiredError(RegsvcError):
    """This link or code is no longer valid. Log in, or sign up again."""

    code = "token_expired"


class PasswordNeededError(RegsvcError):
    """The link alone does not tell whose sign-up this is. Enter the password you chose, or use your passkey."""

    code = "password_needed"

    def __init__(self, methods: Sequence[Method] = ("password",)) -> None:
        """Args: methods: by what a sign-up that waits for the address can be chosen."""
        super().__init__()
        self.members = {"methods": list(methods)}


@dataclass(frozen=True, repr=False)
class Candidate:
    """A live attempt that a password may select.

    Args:
        id: of the attempt.
        password_hash: hash of the attempt's password.
        password_tag: see `password_tags`; None for attempts older than the tags.
    """

    id: UUID
    password_hash: str
    password_tag: bytes | None


@dataclass(frozen=True)
class _Attempt:
    id: UUID
    email_key: str
    state: State
    alive: bool  # a final attempt may be alive: its link still answers
    password_hash: str | None

    @property
    def needs_proof(self) -> bool:
        """Return whether it has a passkey instead of a password."""
        return self.password_hash is not None and not has_password(self.password_hash)


async def check_link(conn: Connection, secrets: Secrets, token: LinkToken) -> None:
    """Refuse a link that confirms nothing, by one look outside a transaction.

    Raises:
        TokenInvalidError, TokenExpiredError: as `confirm_by_link`.
    """
    await _get_attempt(conn, secrets, token)


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
    """Confirm the address that a link was mailed to, in the caller's transaction.

    Args:
        conn: in a transaction.
        secrets: derive the token.
        token: from the link, not yet checked.
        chosen: the live attempt whose password or passkey the client gave.
        has_handle: the client holds the handle of the link's attempt.
        password_required: never trust a link alone (CONFIRM_REQUIRES_PASSWORD).
        by: the audit actor.

    Returns:
        True if this call confirmed the address, False if it was already confirmed.

    Raises:
        TokenInvalidError: no such attempt, or not mailed to its current address.
        TokenExpiredError: the link expired, its attempt is void, or another attempt has the address's account.
        PasswordNeededError: the link alone does not decide between live attempts.
    """
    attempt = await _lock_attempt(conn, secrets, token)
    if attempt.state == "confirmed":
        return False
    winner = chosen
    if winner is None and has_handle:
        winner = attempt.id
    if winner is None:
        if password_required or attempt.needs_proof or await _count_live(conn, attempt.email_key) > 1:
            raise PasswordNeededError(await list_methods(conn, attempt.email_key))
        winner = attempt.id
    try:
        await activate(conn, winner, attempt.email_key, by)
    except AddressTakenError:
        raise TokenExpiredError from None
    await know_client(conn, secrets, attempt.email_key, by)
    return True


async def list_candidates(conn: Connection, secrets: Secrets, token: LinkToken) -> list[Candidate]:
    """Return the live attempts of the link's address, the link's own first.

    Raises:
        TokenInvalidError, TokenExpiredError: as `confirm_by_link`. A confirmed attempt has no candidates.
    """
    attempt = await _get_attempt(conn, secrets, token)
    if attempt.state == "confirmed":
        return []
    async with conn.cursor(row_factory=class_row(Candidate)) as cursor:
        await cursor.execute(
            f"""
            SELECT id, password_hash, password_tag
              FROM registrations
             WHERE email_key = %(email_key)s AND {LIVE} AND password_hash NOT LIKE %(no_password)s
             ORDER BY id <> %(id)s,
                      least(row_number() OVER (ORDER BY created_at),
                            row_number() OVER (ORDER BY created_at DESC))
             LIMIT %(limit)s
            """,  # noqa: S608 - constants of this module
            {
                "email_key": attempt.email_key,
                "id": attempt.id,
                "limit": CANDIDATES,
                "no_password": NO_PASSWORD,
            },
        )
        return await cursor.fetchall()


async def find_key(
    conn: Connection, secrets: Secrets, token: LinkToken, credential_id: bytes
) -> SignupKey | None:
    """Return the live attempt of the link's address that a passkey was made for.

    Returns:
        None when the address is confirmed already.

    Raises:
        TokenInvalidError, TokenExpiredError: as `confirm_by_link`.
        PasswordNeededError: no live attempt has this passkey.
    """
    attempt = await _get_attempt(conn, secrets, token)
    if attempt.state == "confirmed":
        return None
    found = await find_signup_key(conn, attempt.email_key, credential_id)
    if found is None:
        raise PasswordNeededError(await list_methods(conn, attempt.email_key))
    return found


async def explain_needed(conn: Connection, secrets: Secrets, token: LinkToken) -> PasswordNeededError:
    """Return the error that asks for more than the link, naming what would do.

    Raises:
        TokenInvalidError, TokenExpiredError: as `confirm_by_link`.
    """
    attempt = await _get_attempt(conn, secrets, token)
    return PasswordNeededError(await list_methods(conn, attempt.email_key))


async def repudiate(conn: Connection, secrets: Secrets, token: LinkToken) -> bool:
    """Void the attempt of a link whose reader reported that they did not sign up.

    For 30 days at most one sign-up message a day goes to that address.

    Returns:
        Whether this call voided it; False if it was already void.

    Raises:
        TokenInvalidError, TokenExpiredError: as `confirm_by_link`.
        AlreadyConfirmedError: the attempt is already a user.
    """
    attempt = await _lock_attempt(conn, secrets, token, void_is_fine=True)
    if attempt.state == "confirmed":
        raise AlreadyConfirmedError
    cursor = await conn.execute(
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
    # After the registration: senders lock in the same order.
    await mail_schedule.quieten(conn, mail_schedule.address_key(secrets, attempt.email_key))
    return cursor.rowcount > 0


class AlreadyConfirmedError(RegsvcError):
    """This address is already confirmed."""

    code = "already_confirmed"


async def _get_attempt(
    conn: Connection, secrets: Secrets, token: LinkToken, *, void_is_fine: bool = False
) -> _Attempt:
    async with conn.cursor(row_factory=class_row(_Attempt)) as cursor:
        await cursor.execute(
            f"""
            SELECT id, email_key, state, {alive()} AS alive, password_hash
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
    """Return the attempt after locking its address against concurrent confirmation."""
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
