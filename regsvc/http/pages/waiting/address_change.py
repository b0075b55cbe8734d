"""The email change that waits for its new address, as the account page shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from quart import Response

from regsvc.accounts.users.pending_change import PendingChange, find_pending
from regsvc.http.context import get_context
from regsvc.http.pages.browser_session import find_visitor
from regsvc.http.pages.page import blueprint
from regsvc.http.pages.signup_status import explain_reasons
from regsvc.http.pages.texts import Words, fill
from regsvc.http.pages.times import say_moment
from regsvc.http.pages.waiting.absence import explain_absence
from regsvc.http.pages.waiting.mailbox import Mailbox, find_mailbox
from regsvc.http.response.json_response import answer


@dataclass(frozen=True)
class WaitingChange:
    """What the account page shows of a change.

    Args:
        change: the email change.
        lead: its state in words.
        nothing: why nothing came yet.
        mailbox: of the new address.
        words: that the script of the page needs beside those of every account page.
    """

    change: PendingChange
    lead: str
    nothing: str
    mailbox: Mailbox
    words: Mapping[str, Any]

    @property
    def shown(self) -> dict[str, object]:
        """Return the state as the page's script gets it."""
        return show_change(self.change)


@blueprint.get("/account/address/state")
async def read_address_change() -> Response:
    """Return the state of the email change that waits, for the page that shows it; 404 if none waits any more."""
    visitor = await find_visitor()
    if visitor is None:
        return answer({}, 401, {"WWW-Authenticate": "Bearer"})
    async with get_context().pool.connection() as conn:
        change = await find_pending(conn, visitor.user_id)
    return answer({}, 404) if change is None else answer(show_change(change))


def show_change(change: PendingChange) -> dict[str, object]:
    """Return a change as JSON has it."""
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in asdict(change).items()
    }


async def find_waiting_change(user_id: UUID, words: Words) -> WaitingChange | None:
    """Return the email change of a user that waits, if there is one, in the reader's words."""
    async with get_context().pool.connection() as conn:
        change = await find_pending(conn, user_id)
    if change is None:
        return None
    mailbox = await find_mailbox(change.email)
    nothing = explain_absence(words["waiting"], change, mailbox)
    own = {
        "inbox": {**words["inbox"], "sent": words["account"]["address_asked"]},
        "waiting": words["waiting"],
        "reasons": explain_reasons(words["reasons"]),
    }
    return WaitingChange(change, _say(change, words), nothing, mailbox, own)


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
