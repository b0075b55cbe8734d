"""Registrations as administrators see them."""

from __future__ import annotations

from typing import Literal

from regsvc.accounts.admin.registration_search import Entry
from regsvc.accounts.registrations.registration import Registration, State
from regsvc.mail.reports.bounces import explain_bounce
from regsvc.schemas.fields import PAGE, Body, Cursor, EmailText, Limit
from regsvc.schemas.rows import describe_page, describe_row
from regsvc.schemas.typed_dict import TypedDict


class RegistrationQuery(Body):
    """Which registrations to list."""

    state: State | None = None
    address: EmailText | None = None
    cursor: Cursor | None = None
    limit: Limit = PAGE


EntryShown = describe_row(Entry, "EntryShown")
RegistrationPage = describe_page("RegistrationPage", "registrations", EntryShown)


class BounceShown(TypedDict):
    """Why a mail did not arrive: `hard` for good, `soft` for now, `block` for what it is or where it comes from."""

    kind: Literal["hard", "soft", "block"]
    reason: str


def show_bounce(registration: Registration) -> BounceShown | None:
    """Return why a registration's mail bounced; None if it did not."""
    if registration.state != "bounced":
        return None
    kind, reason = explain_bounce(registration.bounce_kind, registration.reason)
    return {"kind": kind, "reason": reason}
