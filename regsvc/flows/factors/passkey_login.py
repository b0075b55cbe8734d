"""Log in with a passkey, which is both factors: what one has, and the PIN, finger or face that unlocks it."""

from __future__ import annotations

from dataclasses import replace

import structlog

from regsvc.accounts.audit.record import record
from regsvc.accounts.factors.passkeys import use_passkey
from regsvc.accounts.limits.login_attempts import know_client
from regsvc.accounts.sessions.refresh_token import CredentialsChangedError, Grant
from regsvc.accounts.sessions.session_start import start_session
from regsvc.errors import InvalidCredentialsError
from regsvc.flows.caller import Caller
from regsvc.flows.factors.passkey_answers import verify_answer
from regsvc.flows.service import Service
from regsvc.schemas.passkeys import AssertedPasskey

log = structlog.get_logger()


async def log_in_with_passkey(service: Service, caller: Caller, body: AssertedPasskey) -> Grant:
    """Start a session for a client that answers with an account's passkey.

    Raises:
        RateLimitedError, PasskeyInvalidError, PasskeyExpiredError, PasskeyUnknownError, PasskeyUnconfirmedError,
            InvalidCredentialsError: see `verify_answer`.
    """
    answered = await verify_answer(service, caller, body)
    by = caller.as_anyone()
    try:
        async with service.pool.transaction() as conn:
            # Locks the user before the passkey, as what removes passkeys does.
            granted = await start_session(
                conn,
                service.secrets,
                answered.user_id,
                password_hash=None,
                origin=caller.origin,
                client=caller.client,
                amr=answered.methods,
            )
            await use_passkey(conn, answered.key.id, answered.proof, by)
            await know_client(conn, service.secrets, answered.key.email_key, by)
            await record(
                conn,
                "logged_in",
                replace(by, actor="user", actor_id=granted.user_id, session_id=granted.session_id),
                passkey=str(answered.key.id),
            )
    except CredentialsChangedError:
        raise InvalidCredentialsError from None
    log.info("logged in", user=str(granted.user_id), session=str(granted.session_id), by="passkey")
    return granted
