"""Taking all of one's data along, and having it erased."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import structlog
from pydantic import Field
from quart import Blueprint, Response
from typing_extensions import TypedDict  # pydantic reads this one alone before Python 3.12

from regsvc.accounts.audit.record import record
from regsvc.accounts.limits.rate_limit import RateLimitedError
from regsvc.accounts.users.data_export import (
    MOST,
    export_events,
    export_mails,
    export_moves,
    export_registrations,
    export_sessions,
)
from regsvc.accounts.users.erasure import erase_user
from regsvc.accounts.users.password import WrongPasswordError
from regsvc.accounts.users.user import LastAdminError, UserNotFoundError, find_address, get_user
from regsvc.errors import DatabaseUnavailableError, OverloadedError
from regsvc.http.api.login import authenticate
from regsvc.http.context import Context, get_context
from regsvc.http.openapi.operation import documented
from regsvc.http.reauthentication import verify_password
from regsvc.http.request.actor import by_user
from regsvc.http.request.body import read_body
from regsvc.http.response.json_response import answer, empty
from regsvc.schemas.fields import Body, PasswordText
from regsvc.schemas.formats import Id, Nothing, Timestamp, timestamp
from regsvc.schemas.users import Profile, show_profile
from regsvc.security.keys import AccessToken, AccessTokenInvalidError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

log = structlog.get_logger()
blueprint = Blueprint("my_data", __name__)


class PasswordBody(Body):
    """One's password, once more."""

    password: PasswordText


class ExportedSession(TypedDict):
    """A session, alive or not."""

    id: Id
    origin: str
    client: str
    created_at: Timestamp
    last_used_at: Timestamp
    expires_at: Timestamp
    ended_at: Timestamp | None
    ended_reason: str | None


class ExportedRegistration(TypedDict):
    """A sign-up of the address, by whomever."""

    id: Id
    state: str
    origin: str
    client: str
    created_at: Timestamp
    changed_at: Timestamp


class ExportedMove(TypedDict):
    """A move to another address."""

    old_email: str
    new_email: str
    state: str
    asked_at: Timestamp
    done_at: Timestamp | None


class ExportedMail(TypedDict):
    """A mail to the address, or asked for by it."""

    id: Id
    kind: str
    sent_as: str | None
    state: str
    created_at: Timestamp
    sent_at: Timestamp | None


class ExportedEvent(TypedDict):
    """What happened to the account."""

    at: Timestamp
    event: str
    actor: str
    origin: str | None
    client: str | None
    details: dict[str, Any]


class Export(TypedDict):
    """All that is known of somebody."""

    profile: Profile
    sessions: Annotated[list[ExportedSession], Field(description=f"Of each list, the newest {MOST}.")]
    registrations: list[ExportedRegistration]
    moves: list[ExportedMove]
    mails: list[ExportedMail]
    events: list[ExportedEvent]


@blueprint.get("/me/export")
@documented(
    {200: Export},
    headers={"Content-Disposition": "So that a browser stores it."},
    needs_token=True,
    errors=[DatabaseUnavailableError],
)
async def export() -> Response:
    """Export all that is known of oneself."""
    context = get_context()
    return await export_own(context, await authenticate(context))


async def export_own(context: Context, token: AccessToken) -> Response:
    """Return all that is known of whoever is logged in, as a file."""
    async with context.pool.connection() as conn:
        user = await get_user(conn, token.user_id)
        if user is None:
            raise AccessTokenInvalidError
        email_key = await find_address(conn, user.id)
        await record(conn, "account_exported", by_user(token))
        exported = {
            "profile": show_profile(user),
            "sessions": _show(await export_sessions(conn, user.id)),
            "registrations": _show(await export_registrations(conn, email_key)),
            "moves": _show(await export_moves(conn, user.id)),
            "mails": _show(await export_mails(conn, user.id, email_key)),
            "events": _show(await export_events(conn, user.id)),
        }
    log.info("account exported", user=str(user.id))
    return answer(exported, headers={"Content-Disposition": 'attachment; filename="account.json"'})


@blueprint.delete("/me")
@documented(
    {204: Nothing},
    body=PasswordBody,
    needs_token=True,
    errors=[
        WrongPasswordError,
        LastAdminError,
        RateLimitedError,
        OverloadedError,
        DatabaseUnavailableError,
    ],
)
async def delete() -> Response:
    """Delete one's account, for good."""
    context = get_context()
    await erase_own(context, await authenticate(context), await read_body(PasswordBody))
    return empty()


async def erase_own(context: Context, token: AccessToken, body: PasswordBody) -> None:
    """Delete the account of whoever is logged in and knows its password.

    Raises:
        WrongPasswordError: they do not.
        LastAdminError: nobody else could administer the service then.
        OverloadedError: too many passwords wait to be verified.
    """
    proved = await verify_password(context, token, body.password)
    try:
        async with context.pool.transaction() as conn:
            await erase_user(
                conn, context.secrets, token.user_id, by_user(token), password_hash=proved.password_hash
            )
    except UserNotFoundError:  # deleted, or its password changed, at this very moment
        raise AccessTokenInvalidError from None
    log.info("account deleted", user=str(token.user_id))


def _show(found: Sequence[DataclassInstance]) -> list[dict[str, object]]:
    """Return dataclasses in words of the API: their fields, with ids and moments as text."""
    return [{name: _show_value(value) for name, value in asdict(each).items()} for each in found]


def _show_value(value: object) -> object:
    match value:
        case datetime():
            return timestamp(value)
        case UUID():
            return str(value)
        case _:
            return value
