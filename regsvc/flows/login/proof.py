"""Step up: prove in a session that its user is there, before what a stolen session must not do (ASVS 5.0, 7.5.1)."""

from __future__ import annotations

from datetime import datetime

from regsvc.accounts.audit.record import record
from regsvc.accounts.factors.methods import FactorInvalidError, Method, list_second_factors
from regsvc.accounts.factors.ways_in import list_ways_in
from regsvc.accounts.sessions.proof import ProofNeededError, WrongCodeError, find_proof, keep_proof
from regsvc.accounts.users.user import Credentials, lock_user
from regsvc.flows.caller import Caller
from regsvc.flows.factors.check import FactorBody, check_factor
from regsvc.flows.login.reauthentication import verify_password
from regsvc.flows.rate_limits import ACCOUNT, throttle_user
from regsvc.flows.service import Service
from regsvc.postgres.connection import Connection
from regsvc.schemas.fields import PasswordText
from regsvc.security.no_password import has_password
from regsvc.security.signing.access_token import AccessToken, AccessTokenInvalidError


class ProofBody(FactorBody):
    """The password, or one factor. No recovery code: those are for logging in where the app is lost."""

    password: PasswordText | None = None


async def require_proof(
    service: Service, caller: Caller, token: AccessToken, password: str | None = None
) -> Credentials:
    """Make sure that a session's user has proved to be there. Call it outside of any transaction.

    Args:
        service: what to work with.
        caller: who asks.
        token: of the session.
        password: as typed, which is a proof for this one act; None where the session's proof must hold.

    Returns:
        The user's credentials: the caller makes sure in its transaction that these have not changed.

    Raises:
        ProofNeededError: there is neither a password nor a proof of the last five minutes.
        WrongPasswordError: the password is another one.
        RateLimitedError: the client is too fast, or guesses.
        AccessTokenInvalidError: the session or the account is gone.
        OverloadedError: too many passwords wait to be verified.
    """
    if password is not None:
        return await verify_password(service, caller, token, password)
    async with service.pool.connection() as conn:
        found = await find_proof(conn, token.session_id)
        if found is None:
            raise AccessTokenInvalidError
        if found.proved_until is None:
            raise ProofNeededError(await list_methods(conn, found))
    return found


async def lock_session(conn: Connection, token: AccessToken) -> None:
    """Lock a session's user in the caller's transaction, and make sure that the session still goes on.

    A change of factors or identities begins with it. Without it, a request that waits while the owner takes the account
    back would add what a thief asked for a moment later.

    Raises:
        AccessTokenInvalidError: the session or the account is gone.
    """
    await lock_user(conn, token.user_id)
    if await find_proof(conn, token.session_id) is None:
        raise AccessTokenInvalidError


async def give_proof(service: Service, caller: Caller, token: AccessToken, body: ProofBody) -> datetime:
    """Prove that a session's user is there, and return until when that holds.

    Raises:
        WrongPasswordError, WrongCodeError: what was given is wrong, or was already used.
        PasskeyExpiredError: the challenge of the passkey is used up, or too old.
        RateLimitedError: the client is too fast, or guesses.
        AccessTokenInvalidError: the session or the account is gone.
        OverloadedError: too many passwords wait to be verified.
    """
    await throttle_user(service, caller, token, ACCOUNT)
    by = caller.as_user(token)

    async def keep(conn: Connection, amr: list[str]) -> datetime:
        until = await keep_proof(conn, token.session_id, amr)
        await record(conn, "proof_given", by, amr=" ".join(amr))
        return until

    if body.password is not None:
        await verify_password(service, caller, token, body.password)
        async with service.pool.transaction() as conn:
            return await keep(conn, ["pwd"])
    async with service.pool.connection() as conn:
        found = await find_proof(conn, token.session_id)
    if found is None:
        raise AccessTokenInvalidError
    try:
        return await check_factor(service, caller, found, body, keep, by=by, purpose="proof")
    except FactorInvalidError:
        raise WrongCodeError from None


async def list_methods(conn: Connection, credentials: Credentials) -> list[Method]:
    """Return by what a user can prove to be there. Recovery codes are kept for logging in.

    `identity`: by a login with a provider (`regsvc.flows.identities.own_identities`).
    """
    factors = await list_second_factors(conn, credentials.user_id)
    password: list[Method] = ["password"] if has_password(credentials.password_hash) else []
    ways = await list_ways_in(conn, credentials.user_id)
    identity: list[Method] = ["identity"] if ways.identities else []
    return password + [method for method in factors if method != "recovery_code"] + identity
