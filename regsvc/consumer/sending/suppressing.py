"""Decide which claimed mails are not sent because their address is suppressed."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from regsvc.accounts.deliveries import suppression
from regsvc.accounts.deliveries.suppression import Suppressed
from regsvc.accounts.invitations.letters import InvitationLetter
from regsvc.accounts.limits.mail_schedule import Turn
from regsvc.accounts.mails.legacy import LegacyLetter
from regsvc.accounts.mails.turns import AnyLetter
from regsvc.accounts.registrations.mail_status import Letter
from regsvc.postgres.connection import Connection
from regsvc.security.tokens import Secrets


async def hold_suppressed(
    conn: Connection, secrets: Secrets, letters: Mapping[UUID, AnyLetter]
) -> tuple[dict[UUID, Turn], set[UUID]]:
    """Return the mails of attempts to hold, each with what its attempt will show, and the other mails to cancel."""
    found = await suppression.find_suppressed(
        conn, secrets, {letter.email_key for letter in letters.values()}
    )
    held: dict[UUID, Turn] = {}
    asked: dict[UUID, tuple[bytes, str]] = {}
    cancelled: set[UUID] = set()
    for mail_id, letter in letters.items() if found else ():
        suppressed = found.get(letter.email_key)
        if suppressed is None:
            continue
        if isinstance(letter, Letter) and not letter.is_login:
            if (turn := _hold_signup(letter, suppressed)) is not None:
                held[mail_id] = turn
        elif isinstance(letter, InvitationLetter):
            cancelled.add(mail_id)
        elif not isinstance(letter, LegacyLetter) and suppressed.bounced_until is not None:
            # A login code is one kind of mail, whether its address has an account or not.
            asked[mail_id] = (suppressed.key, "login" if isinstance(letter, Letter) else letter.sent_as)
    for mail_id, (key, kind) in sorted(asked.items(), key=lambda each: each[1]):  # locks in one order
        if await suppression.pass_once_a_day(conn, key, kind, mail_id):
            continue
        letter = letters[mail_id]
        if isinstance(letter, Letter):
            held[mail_id] = _hold_after_bounce(found[letter.email_key])
        else:
            cancelled.add(mail_id)
    return held, cancelled


def _hold_signup(letter: Letter, suppressed: Suppressed) -> Turn | None:
    until = suppressed.complained_until
    if until is not None:
        return Turn(until, None, suppressed=True)
    if suppressed.bounced_until is None or letter.insists:
        return None
    return _hold_after_bounce(suppressed)


def _hold_after_bounce(suppressed: Suppressed) -> Turn:
    """Return the turn of a mail that is not sent: its attempt will show the bounce that was before."""
    until = suppressed.bounced_until
    assert until is not None  # noqa: S101 - the caller has looked
    bounce = (suppressed.kind or "hard", suppressed.reason or "no_such_mailbox")
    return Turn(until, None, bounce, suppressed=True)
