"""The email change that waits for its new address, as the account page shows it."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from regsvc.accounts.users.pending_change import PendingChange, find_pending
from regsvc.http.context import get_context
from regsvc.http.pages.signup_status import explain_reasons
from regsvc.http.pages.texts import Words, fill
from regsvc.http.pages.times import say_moment
from regsvc.http.pages.waiting.absence import explain_absence
from regsvc.http.pages.waiting.mailbox import Mailbox, find_mailbox


@dataclass(frozen=True)
class WaitingChange:
    """What the account page shows of a change.

    Args:
        change: the email change.
        lead: its state in words.
        nothing: why nothing came yet.
        mailbox: of the new address.
    """

    change: PendingChange
    lead: str
    nothing: str
    mailbox: Mailbox


async def find_waiting_change(user_id: UUID, words: Words) -> WaitingChange | None:
    """Return the email change of a user that waits, if there is one, in the reader's words."""
    async with get_context().pool.connection() as conn:
        change = await find_pending(conn, user_id)
    if change is None:
        return None
    mailbox = await find_mailbox(change.email)
    nothing = explain_absence(words["waiting"], change, mailbox)
    return WaitingChange(change, _say(change, words), nothing, mailbox)


def _say(change: PendingChange, words: Words) -> str:
    if change.state == "sent":
        return words["account"]["address_asked"]
    text = fill(words["inbox"][change.state], email=change.email)
    if change.reason is not None:
        reasons = explain_reasons(words["reasons"])
        text += f" {reasons.get(change.reason, reasons[''])}"
    if change.next_try_at is not None:
        text += f" {fill(words['inbox']['next_try'], time=say_moment(change.next_try_at))}"
    return text
