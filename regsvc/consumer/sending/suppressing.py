"""Decide which claimed mails are not sent because their address is suppressed."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from regsvc.accounts.deliveries import suppression
from regsvc.accounts.limits.mail_schedule import Turn
from regsvc.accounts.mails.account_mails import AccountLetter
from regsvc.accounts.mails.turns import AnyLetter
from regsvc.accounts.registrations.mail_status import Letter
from regsvc.postgres.connection import Connection
from regsvc.security.tokens import Secrets


async def hold_suppressed(
    conn: Connection, secrets: Secrets, letters: Mapping[UUID, AnyLetter]
) -> tuple[dict[UUID, Turn], set[UUID]]:
    """Return the sign-up mails to hold, each with what its attempt will show, and the other mails to cancel."""
    found = await suppression.find_suppressed(
        conn, secrets, {letter.email_key for letter in letters.values()}
    )
    held: dict[UUID, Turn] = {}
    asked: dict[UUID, tuple[bytes, str]] = {}
    for mail_id, letter in letters.items() if found else ():
        suppressed = found.get(letter.email_key)
        if suppressed is None:
            continue
        if isinstance(letter, Letter):
            until = suppressed.complained_until
            if until is not None:
                held[mail_id] = Turn(until, None, suppressed=True)
            elif suppressed.bounced_until is not None and not letter.insists:
                bounce = (suppressed.kind or "hard", suppressed.reason or "no_such_mailbox")
                held[mail_id] = Turn(suppressed.bounced_until, None, bounce, suppressed=True)
        elif isinstance(letter, AccountLetter) and suppressed.bounced_until is not None:
            asked[mail_id] = (suppressed.key, letter.sent_as)
    cancelled: set[UUID] = set()
    for mail_id, (key, kind) in sorted(asked.items(), key=lambda each: each[1]):  # locks in one order
        if not await suppression.pass_once_a_day(conn, key, kind, mail_id):
            cancelled.add(mail_id)
    return held, cancelled
