"""Registrations as administrators see them."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

from regsvc.accounts.admin.registration_search import Entry
from regsvc.accounts.cursor import MAX_PAGE, Position
from regsvc.accounts.registrations.registration import State
from regsvc.schemas.fields import Body, EmailText
from regsvc.schemas.rows import describe_page, describe_row

PAGE = 50  # registrations a page by default


class RegistrationQuery(Body):
    """Which registrations to list."""

    state: State | None = None
    address: EmailText | None = None
    cursor: Annotated[Position, BeforeValidator(Position.decode)] | None = None
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = PAGE


EntryShown = describe_row(Entry, "EntryShown")
RegistrationPage = describe_page("RegistrationPage", "registrations", EntryShown)
