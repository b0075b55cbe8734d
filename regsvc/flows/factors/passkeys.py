"""The passkeys of one's own account: add, rename, remove."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import structlog

from regsvc.accounts.factors import passkeys
from regsvc.accounts.factors.passkey_challenges import LIFE_SECONDS, add_challenge
from regsvc.accounts.factors.passkeys import MOST, Passkey, TooManyPasskeysError, describe, list_passkeys
from regsvc.accounts.users.user import get_user
from regsvc.flows.caller import Caller
from regsvc.flows.factors.passkey_answers import PASSKEY_OPTIONS, verify_created
from regsvc.flows.login.proof import lock_session, require_proof
from regsvc.flows.rate_limits import ACCOUNT, throttle, throttle_user
from regsvc.flows.service import Service
from regsvc.schemas.fields import Body
from regsvc.schemas.passkeys import CreatedPasskey, PasskeyName, show_options
from regsvc.security.passkeys.assertion import request_options
from regsvc.security.passkeys.registration import creation_options
from regsvc.security.passkeys.relying_party import get_relying_party
from regsvc.security.signing.access_token import AccessToken, AccessTokenInvalidError

log = structlog.get_logger()


class AddPasskeyBody(Body):
    """The new passkey and its name; without one it is named after the client."""

    passkey: CreatedPasskey
    name: PasskeyName | None = None


class RenamePasskeyBody(Body):
    """The new name."""

    name: PasskeyName


async def begin_passkey(service: Service, caller: Caller, token: AccessToken) -> dict[str, Any]:
    """Return options for another passkey of the token's user, and store their challenge.

    Raises:
        ProofNeededError: the session has not proved its user of late.
        TooManyPasskeysError: the user has as many as they may have.
        RateLimitedError: this client asks too often.
        AccessTokenInvalidError: the account is gone.
    """
    await throttle(service, caller, PASSKEY_OPTIONS)
    await require_proof(service, caller, token)
    async with service.pool.connection() as conn:
        user = await get_user(conn, token.user_id)
        known = await list_passkeys(conn, token.user_id)
        if user is None:
            raise AccessTokenInvalidError
        if len(known) >= MOST:
            raise TooManyPasskeysError
        challenge = await add_challenge(conn, "add", user.id)
    return show_options(
        creation_options(
            get_relying_party(service.settings),
            challenge,
            user_id=user.id,
            name=user.email,
            display_name=user.name,
            exclude=[describe(each) for each in known],
            life=LIFE_SECONDS,
        )
    )


async def add_passkey(service: Service, caller: Caller, token: AccessToken, body: AddPasskeyBody) -> Passkey:
    """Add a passkey to the account of the token's user and return it.

    Raises:
        ProofNeededError: the session has not proved its user of late.
        PasskeyInvalidError, PasskeyExpiredError: see `verify_created`.
        TooManyPasskeysError, PasskeyKnownError: see `passkeys.add_passkey`.
        RateLimitedError: the user changes too much.
    """
    await throttle_user(service, caller, token, ACCOUNT)
    await require_proof(service, caller, token)
    _, credential = await verify_created(service, body.passkey, purpose="add", user_id=token.user_id)
    async with service.pool.transaction() as conn:
        await lock_session(conn, token)
        added = await passkeys.add_passkey(
            conn, token.user_id, credential, body.name or caller.client, caller.as_user(token)
        )
    log.info("passkey added", user=str(token.user_id), passkey=str(added.id))
    return added


async def rename_passkey(
    service: Service, caller: Caller, token: AccessToken, passkey_id: UUID, body: RenamePasskeyBody
) -> Passkey:
    """Give a passkey of the token's user another name and return it.

    Raises:
        PasskeyNotFoundError: the user has no such passkey.
        RateLimitedError: the user changes too much.
    """
    await throttle_user(service, caller, token, ACCOUNT)
    async with service.pool.transaction() as conn:
        return await passkeys.rename_passkey(
            conn, token.user_id, passkey_id, body.name, caller.as_user(token)
        )


async def remove_passkey(service: Service, caller: Caller, token: AccessToken, passkey_id: UUID) -> None:
    """Remove a passkey of the token's user.

    Raises:
        ProofNeededError: the session has not proved its user of late.
        PasskeyNotFoundError: the user has no such passkey.
        LastWayInError: the user has no other way in.
        RateLimitedError: the user changes too much.
    """
    await throttle_user(service, caller, token, ACCOUNT)
    await require_proof(service, caller, token)
    async with service.pool.transaction() as conn:
        await lock_session(conn, token)
        await passkeys.remove_passkey(conn, token.user_id, passkey_id, caller.as_user(token))
    log.info("passkey removed", user=str(token.user_id), passkey=str(passkey_id))


async def begin_proof(service: Service, caller: Caller, token: AccessToken) -> dict[str, Any]:
    """Return options for an assertion that proves the token's user, and store their challenge.

    Raises:
        RateLimitedError: this client asks too often.
    """
    await throttle(service, caller, PASSKEY_OPTIONS)
    async with service.pool.connection() as conn:
        known = await list_passkeys(conn, token.user_id)
        challenge = await add_challenge(conn, "proof", token.user_id)
    return show_options(
        request_options(
            get_relying_party(service.settings),
            challenge,
            allow=[describe(each) for each in known],
            life=LIFE_SECONDS,
        )
    )
