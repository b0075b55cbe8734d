"""Confirmation of a sign-up by the six-digit code in its message.

The code of the newest accepted message is valid for 24 hours. The code before it stays valid for ten minutes more, so
that a user who is typing it is not interrupted. A code handed to the mail server is valid before its acceptance is
booked. All other codes are dead, however often the message is sent again.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, TypeAlias
from uuid import UUID

from psycopg.rows import class_row, scalar_row

from regsvc.accounts.audit.record import ANYONE, By
from regsvc.accounts.limits import code_attempts
from regsvc.accounts.limits.login_attempts import know_client
from regsvc.accounts.registrations.activation import AddressTakenError, activate, lock_address
from regsvc.accounts.registrations.registration import LINK_LIFE, State, alive
from regsvc.errors import RegsvcError
from regsvc.postgres.connection import Connection
from regsvc.security import tokens
from regsvc.security.tokens import CODE_DIGITS, Secrets

CODE_LIFE = LINK_LIFE  # from the time the mail server accepts the code's message
CONFIRM_CODE = "confirm-code"  # use of the key that codes derive from
OVERLAP = timedelta(minutes=10)  # how long the previous code stays valid

Outcome: TypeAlias = Literal["confirmed", "wrong", "expired", "exhausted"]

# Characters that keyboards, clipboards and formatted messages put around or between digits.
_IGNORED = {"Zs", "Zl", "Zp", "Cc", "Cf", "Pd", "Mn", "Me"}


class CodeInvalidError(RegsvcError):
    """This code is wrong."""

    code = "code_invalid"


class CodeTriesExhaustedError(RegsvcError):
    """Too many wrong codes. Use the link in the email instead."""

    code = "code_tries_exhausted"


@dataclass(frozen=True)
class _Attempt:
    id: UUID
    email_key: str
    state: State
    alive: bool


def read_code(text: str) -> str | None:
    """Return the six ASCII digits of a typed or pasted code, or None if there are not six.

    Digits of every script count. Spaces, hyphens and zero-width characters are ignored.
    """
    digits = ""
    for character in text:
        value = unicodedata.decimal(character, None)
        if value is not None:
            digits += str(value)
        elif unicodedata.category(character) not in _IGNORED:
            return None
    return digits if len(digits) == CODE_DIGITS else None


async def try_code(
    conn: Connection, secrets: Secrets, registration_id: UUID, code: str, by: By = ANYONE
) -> Outcome:
    """Try a code, normalised by `read_code`, in the caller's transaction; the caller has checked the handle.

    The outcome is returned rather than raised, because the caller must commit the counted attempt. A sign-up with an
    address that has an account behaves the same, since its code was never mailed. A code beyond the address's attempt
    budget counts as wrong.
    """
    attempt = await _get_attempt(conn, registration_id)
    if attempt is None:
        return "expired"
    await lock_address(conn, attempt.email_key)
    locked = await _get_attempt(conn, registration_id, lock=True)
    if locked is None or not locked.alive:
        return "expired"
    if locked.email_key != attempt.email_key:
        return "wrong"  # the code was mailed to the previous address
    mails = await _list_mails(conn, registration_id)
    if locked.state != "confirmed":
        return await _guess(conn, secrets, locked, mails, code=code, by=by)
    return (
        "confirmed" if tokens.code_matches(secrets, mails, locked.email_key, code, CONFIRM_CODE) else "wrong"
    )


async def _guess(
    conn: Connection, secrets: Secrets, attempt: _Attempt, mails: Sequence[UUID], *, code: str, by: By
) -> Outcome:
    """Compare a code with those that have attempts left; count a wrong one, and confirm by a right one."""
    signup = code_attempts.of_signup(secrets, attempt.id)
    codes = {code_attempts.of_code(secrets, mail_id): mail_id for mail_id in mails}
    address = code_attempts.of_address(secrets, attempt.email_key, by.origin or "")
    spent = await code_attempts.find_spent(conn, [signup, *codes, *address])
    left = {budget: mail_id for budget, mail_id in codes.items() if budget not in spent}
    if signup in spent or (codes and not left):
        return "exhausted"
    allowed = spent.isdisjoint(address)
    if (
        not tokens.code_matches(secrets, [*left.values()], attempt.email_key, code, CONFIRM_CODE)
        or not allowed
    ):
        await code_attempts.spend(conn, [signup, *left, *(address if allowed else ())])
        return "wrong"
    try:
        await activate(conn, attempt.id, attempt.email_key, by)
    except AddressTakenError:
        return "expired"
    await know_client(conn, secrets, attempt.email_key, by)
    return "confirmed"


async def _get_attempt(conn: Connection, registration_id: UUID, *, lock: bool = False) -> _Attempt | None:
    async with conn.cursor(row_factory=class_row(_Attempt)) as cursor:
        await cursor.execute(
            f"""
            SELECT id, email_key, state, {alive()} AS alive
              FROM registrations
             WHERE id = %(id)s AND login_key IS NULL
             {"FOR NO KEY UPDATE" if lock else ""}
            """,  # noqa: S608 - constants of our own
            {"id": registration_id},
        )
        return await cursor.fetchone()


async def _list_mails(conn: Connection, registration_id: UUID) -> Sequence[UUID]:
    """Return the messages whose codes are valid now, three at most.

    Of open messages that is the one last handed to the mail server, which may have accepted it already, even before an
    operator replayed it.
    """
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(
            """
            SELECT id
              FROM (SELECT m.id, m.state, m.sent_at, max(m.sent_at) OVER () AS newest_at,
                           row_number() OVER (
                               PARTITION BY m.state = 'sent'
                               ORDER BY m.sent_at DESC,
                                        m.attempts > 0 OR m.replayed_at IS NOT NULL DESC, m.created_at DESC, m.id
                           ) AS place
                      FROM mails m
                      JOIN registrations r ON r.id = m.registration_id
                     WHERE r.id = %(id)s AND m.created_at >= r.address_since
                       AND m.state IN ('queued', 'sending', 'sent', 'delayed')) AS mail
             WHERE CASE WHEN state <> 'sent' THEN place = 1
                        ELSE sent_at > now() - %(life)s
                         AND (place = 1 OR place = 2 AND newest_at > now() - %(overlap)s) END
            """,
            {"id": registration_id, "life": CODE_LIFE, "overlap": OVERLAP},
        )
        return await cursor.fetchall()
