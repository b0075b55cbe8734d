"""Users as the API shows them."""

from __future__ import annotations

from typing import Any

from regsvc.accounts.admin import user_search
from regsvc.accounts.admin.user_search import Person
from regsvc.accounts.users.user import User
from regsvc.schemas.fields import PAGE, Body, Cursor, Limit, SearchText
from regsvc.schemas.rows import describe_page, describe_row, show_row


class UserQuery(Body):
    """Which users to list."""

    search: SearchText | None = None
    role: user_search.Role | None = None
    state: user_search.Standing | None = None
    cursor: Cursor | None = None
    limit: Limit = PAGE


UserShown = describe_row(Person, "UserShown")
UserPage = describe_page("UserPage", "users", UserShown)

_PROFILE = ("id", "email", "name", "locale", "role", "created_at")
Profile: Any = describe_row(User, "Profile", only=_PROFILE)


def show_profile(user: User) -> dict[str, Any]:
    """Return a profile as its owner sees it."""
    return show_row(user, only=_PROFILE)
