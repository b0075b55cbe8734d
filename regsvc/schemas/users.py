"""Users as the API shows them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from regsvc.accounts.admin import user_search
from regsvc.accounts.admin.user_search import Person
from regsvc.accounts.cursor import MAX_PAGE, Position
from regsvc.accounts.users.user import User
from regsvc.schemas.fields import Body, SearchText
from regsvc.schemas.rows import describe_page, describe_row, show_row

PAGE = 50  # users a page by default


class UserQuery(Body):
    """Which users to list."""

    search: SearchText | None = None
    role: user_search.Role | None = None
    state: user_search.Standing | None = None
    cursor: Annotated[Position, BeforeValidator(Position.decode)] | None = None
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = PAGE


UserShown = describe_row(Person, "UserShown")
UserPage = describe_page("UserPage", "users", UserShown)

_PROFILE = ("id", "email", "name", "locale", "role", "created_at")
Profile: Any = describe_row(User, "Profile", only=_PROFILE)


def show_profile(user: User) -> dict[str, Any]:
    """Return a profile as its owner sees it."""
    return show_row(user, only=_PROFILE)
