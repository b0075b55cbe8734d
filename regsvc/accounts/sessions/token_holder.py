"""Whose a refresh token is, without using it up."""

from __future__ import annotations

import time
from dataclasses import dataclass
from uuid import UUID

from regsvc.accounts.sessions.refresh_token import find_refreshed
from regsvc.postgres.connection import Connection
from regsvc.security.tokens import Secrets, read_refresh_token


@dataclass(frozen=True)
class Holder:
    """Whose a refresh token is, and its expiry in Unix time."""

    user_id: UUID
    session_id: UUID
    role: str
    expires_at: int


async def find_holder(conn: Connection, secrets: Secrets, text: str) -> Holder | None:
    """Return whose refresh token this is, or None if it would not be exchanged for another one now."""
    token = read_refresh_token(secrets, text)
    found = None if token is None else await find_refreshed(conn, token.session_id)
    if token is None or found is None or found.over or token.number < found.number or found.expires_in <= 0:
        return None
    return Holder(found.user_id, token.session_id, found.role, int(time.time() + found.expires_in))
