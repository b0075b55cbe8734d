"""Registrations as administrators see them."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field
from typing_extensions import TypedDict  # pydantic reads this one alone before Python 3.12

from regsvc.accounts.admin import registration_search
from regsvc.accounts.admin.cursor import Position
from regsvc.accounts.admin.registration_search import Entry
from regsvc.accounts.registrations.registration import State
from regsvc.schemas.fields import Body, EmailText
from regsvc.schemas.formats import Id, Timestamp, timestamp

PAGE = 50  # registrations, if nobody says how many


class RegistrationQuery(Body):
    """Which registrations to list."""

    state: State | None = None
    address: EmailText | None = None
    cursor: Annotated[Position, BeforeValidator(Position.decode)] | None = None
    limit: Annotated[int, Field(ge=1, le=registration_search.MAX_PAGE)] = PAGE


class EntryShown(TypedDict):
    """A registration, whose it is, and how it stands."""

    id: Id
    address: Annotated[str | None, Field(description="Null if whose it was is erased.")]
    name: str | None
    state: State
    attempts: Annotated[int, Field(description="How often its mail was taken to the mail server.")]
    next_try_at: Timestamp | None
    reason: str | None
    origin: Annotated[str, Field(description="The network prefix that it came from.")]
    client: Annotated[str, Field(description="The software that it came from, in our own words.")]
    created_at: Timestamp
    changed_at: Timestamp
    expires_at: Timestamp | None


class RegistrationPage(TypedDict):
    """Some registrations, the newest first."""

    registrations: list[EntryShown]
    next_cursor: Annotated[str | None, Field(description="The `cursor` of the next page, if there is one.")]


def show_entry(entry: Entry) -> EntryShown:
    """Return a registration as the API shows it."""
    return {
        "id": str(entry.id),
        "address": entry.email,
        "name": entry.name,
        "state": entry.state,
        "attempts": entry.attempts,
        "next_try_at": timestamp(entry.next_try_at),
        "reason": entry.reason,
        "origin": entry.origin,
        "client": entry.client,
        "created_at": timestamp(entry.created_at),
        "changed_at": timestamp(entry.changed_at),
        "expires_at": timestamp(entry.expires_at),
    }
