"""Moments on pages: in UTC as they are sent; a script says them again in the reader's own time."""

from __future__ import annotations

from datetime import UTC, datetime


def say_moment(moment: datetime) -> str:
    """Return a moment in words that every language reads."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
