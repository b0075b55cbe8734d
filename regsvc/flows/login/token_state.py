"""Tell what a token is good for, and end the session behind it, for a service that holds the token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from uuid import UUID

import structlog

from regsvc.accounts.audit.record import record
from regsvc.accounts.sessions import session
from regsvc.accounts.sessions.token_holder import find_holder
from regsvc.flows.caller import Caller
from regsvc.flows.service import Service

log = structlog.get_logger()


@dataclass(frozen=True)
class TokenState:
    """What a good token stands for.

    Args:
        kind: of token.
        user_id: the user.
        session_id: the session.
        role: of the user.
        expires_at: Unix time, in seconds.
    """

    kind: Literal["access_token", "refresh_token"]
    user_id: UUID
    session_id: UUID
    role: str
    expires_at: int


async def find_refresh_state(service: Service, text: str) -> TokenState | None:
    """Return what a refresh token stands for, or None if it would not be accepted."""
    async with service.pool.connection(alone=True) as conn:
        found = await find_holder(conn, service.secrets, text)
    if found is None:
        return None
    return TokenState("refresh_token", found.user_id, found.session_id, found.role, found.expires_at)


async def revoke(service: Service, caller: Caller, state: TokenState) -> None:
    """End the session of a token, and with it all its tokens (RFC 7009 section 2.1)."""
    async with service.pool.transaction() as conn:
        ended = await session.end_session(conn, state.session_id, reason="logout")
        if ended:
            by = caller.act_as("user", state.user_id, state.session_id)
            await record(conn, "logged_out", by, by_token=state.kind)
    if ended:
        log.info("session ended", user=str(state.user_id), session=str(state.session_id))
