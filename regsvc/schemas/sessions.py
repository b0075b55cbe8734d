"""Sessions as the API shows them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from regsvc.accounts.sessions.session import MOST_SHOWN, Session
from regsvc.schemas.rows import describe_row, show_row
from regsvc.schemas.typed_dict import TypedDict

_Current = Annotated[bool, Field(description="Whether this session asks.")]
SessionShown: Any = describe_row(Session, "SessionShown", more={"current": _Current})


class SessionsShown(TypedDict):
    """The sessions in which a user is logged in, used last first."""

    sessions: Annotated[list[SessionShown], Field(description=f"At most {MOST_SHOWN}.")]


def show_session(session: Session, *, current: bool) -> dict[str, Any]:
    """Return a session, and whether it is the one that asks."""
    return {**show_row(session), "current": current}
