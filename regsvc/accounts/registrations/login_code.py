"""Login by a code that is mailed: an attempt like a sign-up, shown by the same live status.

The attempt is a row of `registrations` whose `login_key` is the address's; nothing about sign-ups finds it. Whether the
address has an account is decided when a sender claims the mail, and when the right code comes. A code lives ten minutes
from the time the mail server accepts its mail, allows five wrong ones, and works for the attempt's handle alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, TypeAlias
from uuid import UUID

from psycopg.rows import class_row, scalar_row

from regsvc.accounts.audit.record import By, record
from regsvc.accounts.limits import code_attempts
from regsvc.accounts.limits.login_attempts import is_known
from regsvc.accounts.registrations.activation import lock_address
from regsvc.accounts.registrations.confirmation_code import CodeTriesExhaustedError
from regsvc.accounts.registrations.registration import (
    LOGIN_CODE_LIFE,
    STATE_CHANNEL,
    RegistrationOverError,
    State,
    alive,
)
from regsvc.mail.queue.jobs import DUE_CHANNEL
from regsvc.postgres.connection import Connection
from regsvc.security.no_password import mint_no_password
from regsvc.security.tokens import Secrets, code_matches

LOGIN_CODE = "login-code"  # use of the key that codes derive from
UNSENT_LIFE = timedelta(hours=1)  # of an attempt whose mail the mail server does not accept
NEWEST = 3  # mails of an attempt whose codes may be valid: two that were sent, and one on its way

Outcome: TypeAlias = Literal["right", "wrong", "expired", "exhausted"]


class LoginCodeTriesExhaustedError(CodeTriesExhaustedError):
    """Too many wrong codes. Request a new one."""


@dataclass(frozen=True)
class NewLogin:
    """The values of a new attempt.

    Args:
        id: chosen by the caller, which derives the handle from it.
        mail_id: id of its message.
        email: the normalised address to send to.
        email_key: key of the address.
        locale: language of the message, an RFC 5646 tag.
        origin: network prefix of the client.
        client: short name of the client's software.
        own_turn: mail schedule of the attempt, as its live status shows it.
        turn: mail schedule of the address and this client, which the attempt's follows.
    """

    id: UUID
    mail_id: UUID
    email: str
    email_key: str
    locale: str
    origin: str
    client: str
    own_turn: bytes
    turn: bytes


@dataclass(frozen=True)
class _Attempt:
    login_key: str
    state: State
    alive: bool


# Adds the message of each attempt in `asked`, and gives its live status the client's next turn.
_MAILED = """
    mailed AS (
        INSERT INTO mails (id, kind, wanted, email, email_key)
        SELECT %(mail_id)s, 'login', id, %(email)s, %(email_key)s FROM asked
        RETURNING id
    ), turned AS (
        INSERT INTO mail_schedules AS s (key, sent, last_at)
        SELECT %(own_turn)s, sent, last_at FROM mail_schedules WHERE key = %(turn)s
        ON CONFLICT (key) DO UPDATE SET sent = excluded.sent, last_at = excluded.last_at
    )
    SELECT pg_notify(%(due_channel)s, '') FROM mailed
"""


async def add_login(conn: Connection, new: NewLogin) -> None:
    """Insert an attempt and its message, due now, in the caller's transaction, and wake the workers.

    It is over after an hour, or ten minutes after the mail server accepted the message.
    """
    await conn.execute(
        f"""
        WITH asked AS (
            INSERT INTO registrations (id, email, email_key, login_key, name, locale, password_hash, origin, client,
                                       expires_at)
            VALUES (%(id)s, %(email)s, '', %(email_key)s, '', %(locale)s, %(password_hash)s, %(origin)s, %(client)s,
                    now() + %(life)s)
            RETURNING id
        ), {_MAILED}
        """,  # noqa: S608 - a constant of this module
        vars(new) | {"password_hash": mint_no_password(), "life": UNSENT_LIFE, "due_channel": DUE_CHANNEL},
    )


async def mail_again(conn: Connection, new: NewLogin) -> None:
    """Insert another message of the attempt `new.id`, in the caller's transaction; the caller has checked the handle.

    Raises:
        RegistrationOverError: the attempt is over, or of another address.
    """
    cursor = await conn.execute(
        f"""
        WITH asked AS (
            UPDATE registrations SET expires_at = now() + %(life)s
             WHERE id = %(id)s AND login_key = %(email_key)s AND state <> 'confirmed' AND {alive()}
            RETURNING id
        ), {_MAILED}
        """,  # noqa: S608 - constants
        vars(new) | {"life": UNSENT_LIFE, "due_channel": DUE_CHANNEL},
    )
    if cursor.rowcount == 0:
        raise RegistrationOverError


async def try_code(
    conn: Connection, secrets: Secrets, login_id: UUID, code: str, by: By
) -> tuple[Outcome, UUID | None]:
    """Try a code, normalised by `read_code`, in the caller's transaction; the caller has checked the handle.

    The attempt ends with the right code, so that of any number of requests with it one logs in. An address without an
    account costs the same statements: its codes, which no mail brought, all count as wrong. So do codes beyond the
    address's budgets, of which the one of all networks does not hold where the owner has logged in before.

    Args:
        conn: in a transaction. The outcome is returned rather than raised, because the caller must commit it.
        secrets: derive codes and budgets.
        login_id: the attempt.
        code: six ASCII digits.
        by: the client.

    Returns:
        The outcome, and the user if the code was right.
    """
    attempt = await _get_attempt(conn, login_id)
    if attempt is None:
        return "expired", None
    await lock_address(conn, f"login {attempt.login_key}")
    locked = await _get_attempt(conn, login_id, lock=True)
    if locked is None or not locked.alive or locked.state == "confirmed":
        return "expired", None
    key = locked.login_key
    mails = await _list_mails(conn, login_id)
    whole = code_attempts.of_signup(secrets, login_id)
    codes = {code_attempts.of_code(secrets, mail_id): mail_id for mail_id in mails}
    network, everywhere = code_attempts.of_login(secrets, key, by.origin or "")
    spent = await code_attempts.find_spent(conn, [whole, *codes, network, everywhere])
    known = await is_known(conn, secrets, key, by.origin or "")
    user_id = await _find_user(conn, key)
    left = {budget: mail_id for budget, mail_id in codes.items() if budget not in spent}
    if whole in spent or (codes and not left):
        return "exhausted", None
    counted = [network] if known else [network, everywhere]
    allowed = spent.isdisjoint(counted)
    matches = code_matches(secrets, [*left.values()], key, code, LOGIN_CODE)
    if not matches or not allowed or user_id is None:
        await code_attempts.spend(conn, [whole, *left, *([network, everywhere] if allowed else ())])
        await record(conn, "login_failed", by, user_id=user_id, code=True)
        return "wrong", None
    await _confirm(conn, login_id)
    return "right", user_id


async def _confirm(conn: Connection, login_id: UUID) -> None:
    await conn.execute(
        """
        WITH moved AS (
            UPDATE registrations
               SET state = 'confirmed', seq = seq + 1, password_hash = NULL, next_try_at = NULL, reason = NULL,
                   changed_at = now()
             WHERE id = %(id)s
            RETURNING id, seq
        )
        SELECT pg_notify(%(channel)s, id || ':' || seq) FROM moved
        """,
        {"id": login_id, "channel": STATE_CHANNEL},
    )


async def _get_attempt(conn: Connection, login_id: UUID, *, lock: bool = False) -> _Attempt | None:
    async with conn.cursor(row_factory=class_row(_Attempt)) as cursor:
        await cursor.execute(
            f"""
            SELECT login_key, state, {alive()} AS alive
              FROM registrations
             WHERE id = %(id)s AND login_key IS NOT NULL
             {"FOR NO KEY UPDATE" if lock else ""}
            """,  # noqa: S608 - constants of our own
            {"id": login_id},
        )
        return await cursor.fetchone()


async def _find_user(conn: Connection, email_key: str) -> UUID | None:
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(
            "SELECT id FROM users WHERE email_key = %(key)s AND disabled_at IS NULL", {"key": email_key}
        )
        return await cursor.fetchone()


async def _list_mails(conn: Connection, login_id: UUID) -> Sequence[UUID]:
    """Return the messages whose codes are valid now.

    One that was handed to the mail server counts before its acceptance is booked; it may be there already.
    """
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(
            """
            SELECT id FROM mails
             WHERE kind = 'login' AND wanted = %(id)s
               AND CASE WHEN state = 'sent' THEN sent_at > now() - %(life)s
                        ELSE state IN ('queued', 'sending', 'delayed')
                         AND (attempts > 0 OR replayed_at IS NOT NULL) AND NOT silent END
             ORDER BY created_at DESC LIMIT %(newest)s
            """,
            {"id": login_id, "life": LOGIN_CODE_LIFE, "newest": NEWEST},
        )
        return await cursor.fetchall()
