"""Registrations as administrators see them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from regsvc.accounts.admin.registration_search import Entry
from regsvc.accounts.cursor import MAX_PAGE, Position
from regsvc.accounts.registrations.registration import Registration, State
from regsvc.mail.reports.bounces import explain_bounce
from regsvc.schemas.fields import Body, EmailText
from regsvc.schemas.rows import describe_page, describe_row
from regsvc.schemas.typed_dict import TypedDict

PAGE = 50  # registrations a page by default


class RegistrationQuery(Body):
    """Which registrations to list."""

    state: State | None = None
    address: EmailText | None = None
    cursor: Annotated[Position, BeforeValidator(Position.decode)] | None = None
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = PAGE


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
