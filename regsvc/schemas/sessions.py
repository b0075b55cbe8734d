"""Sessions as the API shows them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from typing_extensions import TypedDict  # pydantic reads this one alone before Python 3.12

from regsvc.accounts.sessions.session import (
    MOST_SHOWN,
    Session,
)
from regsvc.schemas.formats import Id, Timestamp, timestamp


class SessionShown(TypedDict):
    """A session: a log-in and what it grew into."""

    id: Id
    client: Annotated[str, Field(description="The software that logged in, in our own words.")]
    origin: Annotated[str, Field(description="The network prefix that it logged in from.")]
    created_at: Timestamp
    last_used_at: Annotated[Timestamp, Field(description="When its tokens were renewed last.")]
    expires_at: Annotated[Timestamp, Field(description="When it ends if they are not renewed.")]
    current: Annotated[bool, Field(description="It is the one that asks.")]


class SessionsShown(TypedDict):
    """One's sessions, those used last first."""

    sessions: Annotated[list[SessionShown], Field(description=f"At most {MOST_SHOWN}.")]


def show_session(session: Session, *, current: bool) -> SessionShown:
    """Return a session in words of the API."""
    return {
        "id": str(session.id),
        "client": session.client,
        "origin": session.origin,
        "created_at": timestamp(session.created_at),
        "last_used_at": timestamp(session.last_used_at),
        "expires_at": timestamp(session.expires_at),
        "current": current,
    }
