"""Users as the API shows them."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field
from typing_extensions import (
    TypedDict,  # pydantic reads this one alone before Python 3.12  # pydantic reads this one alone before Python 3.12
)

from regsvc.accounts.admin import user_search
from regsvc.accounts.admin.cursor import Position
from regsvc.accounts.admin.user_search import Person
from regsvc.accounts.users.user import User
from regsvc.schemas.fields import Body, SearchText
from regsvc.schemas.formats import Id, Timestamp, timestamp

PAGE = 50  # users, if nobody says how many


class UserQuery(Body):
    """Which users to list."""

    search: SearchText | None = None
    role: user_search.Role | None = None
    state: user_search.Standing | None = None
    cursor: Annotated[Position, BeforeValidator(Position.decode)] | None = None
    limit: Annotated[int, Field(ge=1, le=user_search.MAX_PAGE)] = PAGE


class UserShown(TypedDict):
    """A user, and how they stand."""

    id: Id
    email: str
    name: str
    locale: str
    role: user_search.Role
    state: Annotated[user_search.Standing, Field(description="Whether they may log in.")]
    created_at: Timestamp
    disabled_at: Timestamp | None
    sessions: Annotated[int, Field(description="In how many they are logged in.")]
    last_used_at: Annotated[Timestamp | None, Field(description="When the last of those was used.")]


class UserPage(TypedDict):
    """Some users, the newest first."""

    users: list[UserShown]
    next_cursor: Annotated[str | None, Field(description="The `cursor` of the next page, if there is one.")]


def show_page(page: user_search.Page) -> UserPage:
    """Return a page of users in words of the API."""
    return {
        "users": [show_user(person) for person in page.people],
        "next_cursor": page.next.encode() if page.next else None,
    }


def show_user(person: Person) -> UserShown:
    """Return a user in words of the API."""
    return {
        "id": str(person.id),
        "email": person.email,
        "name": person.name,
        "locale": person.locale,
        "role": person.role,
        "state": person.standing,
        "created_at": timestamp(person.created_at),
        "disabled_at": timestamp(person.disabled_at),
        "sessions": person.sessions,
        "last_used_at": timestamp(person.last_used_at),
    }


class Profile(TypedDict):
    """The profile of whoever the access token belongs to."""

    id: Id
    email: str
    name: str
    locale: str
    role: str
    created_at: Timestamp


def show_profile(user: User) -> Profile:
    """Return a profile in words of the API."""
    return {
        "id": str(user.id),
        "email": user.email,
        "name": user.name,
        "locale": user.locale,
        "role": user.role,
        "created_at": timestamp(user.created_at),
    }
