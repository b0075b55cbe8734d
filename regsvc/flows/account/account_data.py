"""Download or delete the data of one's own account."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import aclosing

import structlog

from regsvc.accounts.audit.record import record
from regsvc.accounts.users.data_export import export_pages
from regsvc.accounts.users.erasure import erase_user
from regsvc.accounts.users.user import User, UserNotFoundError, find_address, get_user
from regsvc.errors import OverloadedError
from regsvc.flows.caller import Caller
from regsvc.flows.login.proof import require_proof
from regsvc.flows.rate_limits import ACCOUNT, EXPORT, throttle_user
from regsvc.flows.service import Service
from regsvc.schemas.fields import Body, PasswordText
from regsvc.schemas.rows import show_row
from regsvc.schemas.users import show_profile
from regsvc.security.signing.access_token import AccessToken, AccessTokenInvalidError

log = structlog.get_logger()

# All rows about one person go in one transaction, or none does. Nearly always it ends at once; who has tens of
# thousands of them waits longer than others may.
ERASURE_SECONDS = 20.0


class PasswordBody(Body):
    """The user's password, unless the session has proved its user."""

    password: PasswordText | None = None


async def begin_export(service: Service, caller: Caller, token: AccessToken) -> AsyncIterator[str]:
    """Return the JSON of all data about the token's user, in pieces that are read and written one by one.

    Raises:
        ProofNeededError: the session has not proved its user.
        AccessTokenInvalidError: the account is gone.
        RateLimitedError: the user exported their data several times this hour.
        OverloadedError: as many exports as may run at once are running.
    """
    if not service.exports.available_tokens:
        raise OverloadedError
    await require_proof(service, caller, token)
    await throttle_user(service, caller, token, EXPORT)
    async with service.pool.connection() as conn:
        user = await get_user(conn, token.user_id)
        if user is None:
            raise AccessTokenInvalidError
        email_key = await find_address(conn, user.id)
        await record(conn, "account_exported", caller.as_user(token))
    log.info("account exported", user=str(user.id))
    return _write_export(service, user, email_key)


async def _write_export(service: Service, user: User, email_key: str) -> AsyncIterator[str]:
    async with service.exports:
        yield f'{{"profile": {_to_json(show_profile(user))}'
        current, first = "", True
        async with aclosing(export_pages(service.pool, user.id, email_key)) as pages:
            async for name, rows in pages:
                if name != current:
                    yield f'{"]" if current else ""}, "{name}": ['
                    current, first = name, True
                text = ", ".join(_to_json(show_row(row)) for row in rows)
                if text:
                    yield text if first else f", {text}"
                    first = False
        yield "]}"


async def erase_own(service: Service, caller: Caller, token: AccessToken, body: PasswordBody) -> None:
    """Delete the account of the token's user, who gives its password or has proved to be there.

    Raises:
        ProofNeededError, WrongPasswordError: they do not.
        LastAdminError: no administrator would be left.
        OverloadedError: too many passwords wait to be verified.
    """
    await throttle_user(service, caller, token, ACCOUNT, purpose="password")
    proved = await require_proof(service, caller, token, body.password)
    try:
        async with service.pool.transaction(limit=ERASURE_SECONDS) as conn:
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


def _to_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
