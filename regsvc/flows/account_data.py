"""Taking all of one's data along, and having it erased."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

import structlog

from regsvc.accounts.audit.record import record
from regsvc.accounts.users.data_export import (
    export_events,
    export_mails,
    export_moves,
    export_registrations,
    export_sessions,
)
from regsvc.accounts.users.erasure import erase_user
from regsvc.accounts.users.user import UserNotFoundError, find_address, get_user
from regsvc.flows.caller import Caller
from regsvc.flows.reauthentication import verify_password
from regsvc.flows.service import Service
from regsvc.schemas.fields import Body, PasswordText
from regsvc.schemas.formats import timestamp
from regsvc.schemas.users import show_profile
from regsvc.security.keys import AccessToken, AccessTokenInvalidError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

log = structlog.get_logger()


class PasswordBody(Body):
    """One's password, once more."""

    password: PasswordText


async def export_own(service: Service, caller: Caller, token: AccessToken) -> dict[str, object]:
    """Return all data about the token's user, as the API shows it."""
    async with service.pool.connection() as conn:
        user = await get_user(conn, token.user_id)
        if user is None:
            raise AccessTokenInvalidError
        email_key = await find_address(conn, user.id)
        await record(conn, "account_exported", caller.as_user(token))
        exported: dict[str, object] = {
            "profile": show_profile(user),
            "sessions": _show(await export_sessions(conn, user.id)),
            "registrations": _show(await export_registrations(conn, email_key)),
            "moves": _show(await export_moves(conn, user.id)),
            "mails": _show(await export_mails(conn, user.id, email_key)),
            "events": _show(await export_events(conn, user.id)),
        }
    log.info("account exported", user=str(user.id))
    return exported


async def erase_own(service: Service, caller: Caller, token: AccessToken, body: PasswordBody) -> None:
    """Delete the account of whoever is logged in and knows its password.

    Raises:
        WrongPasswordError: they do not.
        LastAdminError: nobody else could administer the service then.
        OverloadedError: too many passwords wait to be verified.
    """
    proved = await verify_password(service, caller, token, body.password)
    try:
        async with service.pool.transaction() as conn:
            await erase_user(
                conn,
                service.secrets,
                token.user_id,
                caller.as_user(token),
                password_hash=proved.password_hash,
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
