"""Start a session: what every login ends with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any, Literal
from uuid import UUID, uuid4

from regsvc.accounts.audit.record import RECORDED, By, event_values
from regsvc.accounts.limits.login_attempts import LoginTry, forgiven, forgiven_values
from regsvc.accounts.sessions.login_places import PLACED, TOLD, place_values
from regsvc.accounts.sessions.refresh_token import CredentialsChangedError, Grant
from regsvc.accounts.sessions.session import IDLE_LIFE, LIFE
from regsvc.postgres.connection import Connection
from regsvc.postgres.query import (
    BOOLEAN,
    BYTEA,
    BYTEA_ARRAY,
    INTEGER,
    INTERVAL,
    JSONB,
    TEXT,
    TEXT_ARRAY,
    TIMESTAMP,
    UUID_TYPE,
    NamedQuery,
    read_integer,
    read_text,
)
from regsvc.security.tokens import RefreshToken, Secrets, mint_refresh_token

# Starts a session as part of another statement: `owner` has a row if the user may log in with this password hash, and
# no second factor was added while it was checked. A session that follows another one asks for no second factor.
_STARTED = """
    owner AS MATERIALIZED (
        SELECT id, role FROM users
         WHERE id = %(user_id)s AND password_hash = coalesce(%(password_hash)s, password_hash)
           AND disabled_at IS NULL
           AND (%(follows)s OR 'mfa' = ANY(%(amr)s::text[])
                OR NOT EXISTS (SELECT FROM totp_authenticators t WHERE t.user_id = users.id))
           FOR SHARE
    ), started AS (
        INSERT INTO sessions (id, user_id, origin, client, expires_at, amr, auth_time)
        SELECT %(id)s, owner.id, %(origin)s, %(client)s, now() + %(life)s, %(amr)s::text[], now() FROM owner
    )
"""
_OWNER = "SELECT role, floor(extract(epoch FROM now()))::bigint FROM owner"
_PARAMETERS = {
    **dict.fromkeys(("id", "user_id", "actor_id", "event_user_id", "session_id", "notice_id"), UUID_TYPE),
    **dict.fromkeys(("event", "actor", "request_id", "origin", "client", "password_hash"), TEXT),
    **dict.fromkeys(("about", "due_channel"), TEXT),
    **dict.fromkeys(("amr", "places"), TEXT_ARRAY),
    **dict.fromkeys(("life", "keep_places"), INTERVAL),
    **dict.fromkeys(("counted", "address"), BYTEA),
    **dict.fromkeys(("at", "before"), TIMESTAMP),
    "details": JSONB,
    "follows": BOOLEAN,
    "keys": BYTEA_ARRAY,
    "others": INTEGER,
}


@cache
def _log_in_query(counted_by: Literal["nobody", "stranger", "client"]) -> NamedQuery:
    """Return the statement of `log_in`, by which row counted the attempt, if one did."""
    forgive = "" if counted_by == "nobody" else f"{forgiven('owner', strange=counted_by == 'stranger')},"
    return NamedQuery(
        f"""
        WITH {_STARTED}, recorded AS ({RECORDED.format("owner")}), {forgive} {PLACED}
        {_OWNER} WHERE {TOLD}
        """,
        _PARAMETERS,
        [read_text, read_integer],
    )


async def log_in(
    conn: Connection,
    secrets: Secrets,
    user_id: UUID,
    *,
    password_hash: str,
    amr: Sequence[str],
    by: By,
    tried: LoginTry | None,
) -> Grant:
    """Start a session, forgive the attempt, record the login and tell of a new place, all in one statement.

    Args:
        conn: for the statement, which is a transaction by itself.
        secrets: derive the token.
        user_id: the user.
        password_hash: the hash that the caller verified.
        amr: what was proved (RFC 8176).
        by: the client.
        tried: the attempt; None where no limits apply.

    Raises:
        CredentialsChangedError: as for `start_session`; nothing is written.
    """
    session_id = uuid4()
    user = replace(by, actor="user", actor_id=user_id, session_id=session_id)
    if tried is None:
        query, values = _log_in_query("nobody"), {}
    else:
        query, values = _log_in_query("client" if tried.known else "stranger"), forgiven_values(tried)
    values |= event_values("logged_in", user) | place_values(by)
    values |= {
        "id": session_id,
        "user_id": user_id,
        "password_hash": password_hash,
        "amr": list(amr),
        "life": LIFE,
        "follows": False,
    }
    owners = await query.execute(conn, *query.write(values))
    return _first_grant(secrets, session_id, user_id, owners[0] if owners else None, amr)


async def start_session(
    conn: Connection,
    secrets: Secrets,
    user_id: UUID,
    *,
    password_hash: str | None,
    origin: str,
    client: str,
    amr: Sequence[str] = ("pwd",),
    follows: bool = False,
) -> Grant:
    """Insert a session with its first refresh token, in the caller's transaction.

    The user is locked: a concurrent change of password, disabling or deletion either ends this session or prevents it.

    Args:
        conn: in a transaction.
        secrets: derive the token.
        user_id: the user.
        password_hash: the hash that the caller verified; None if the user proved themselves by something else.
        origin: network prefix of the client.
        client: short name of the client's software.
        amr: what was proved (RFC 8176).
        follows: it takes the place of a session that ends, so that a second factor added since does not matter.

    Raises:
        CredentialsChangedError: the password has changed, a second factor is missing, or the user may no longer log in.
    """
    session_id = uuid4()
    async with conn.cursor() as cursor:
        await cursor.execute(
            f"WITH {_STARTED} {_OWNER}",
            {
                "id": session_id,
                "user_id": user_id,
                "password_hash": password_hash,
                "origin": origin,
                "client": client,
                "amr": list(amr),
                "life": LIFE,
                "follows": follows,
            },
        )
        return _first_grant(secrets, session_id, user_id, await cursor.fetchone(), amr)


def _first_grant(
    secrets: Secrets, session_id: UUID, user_id: UUID, owner: tuple[Any, ...] | None, amr: Sequence[str]
) -> Grant:
    if owner is None:
        raise CredentialsChangedError
    role, auth_time = owner
    token = mint_refresh_token(secrets, RefreshToken(session_id, 0))
    life = int(min(LIFE, IDLE_LIFE).total_seconds())
    return Grant(session_id, user_id, role, token, life, amr, auth_time)
