"""Change a password, or reset a forgotten one.

A request for a password reset does not look up whether the address has an account. It is stored alike for every
address, and decided when its mail is claimed. No password is hashed inside a transaction.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID, uuid4

import structlog

from regsvc.accounts.address import Address
from regsvc.accounts.limits import mail_schedule
from regsvc.accounts.limits.idempotency import Once, claim_once
from regsvc.accounts.limits.login_attempts import forget_address, know_client
from regsvc.accounts.registrations.confirmation import TokenInvalidError
from regsvc.accounts.sessions.refresh_token import Grant
from regsvc.accounts.sessions.session_start import start_session
from regsvc.accounts.users import password_reset, user
from regsvc.accounts.users.password import change_password
from regsvc.flows.account.new_password import check_new_password
from regsvc.flows.caller import Caller
from regsvc.flows.login.proof import require_proof
from regsvc.flows.rate_limits import ACCOUNT, admit, throttle_user
from regsvc.flows.service import Service
from regsvc.flows.signup.resend import take_turn
from regsvc.logs import mask_email
from regsvc.schemas.fields import Body, EmailText, NewPasswordText, PasswordText, TokenText
from regsvc.security.signing.access_token import AccessToken, AccessTokenInvalidError
from regsvc.security.tokens import read_account_token

log = structlog.get_logger()


class ChangeBody(Body):
    """The new password, and the current one unless the session has proved its user."""

    current_password: PasswordText | None = None
    new_password: NewPasswordText


class ForgotBody(Body):
    """The address of the account."""

    email: EmailText


class ResetBody(Body):
    """The token of the link and the new password."""

    token: TokenText
    password: NewPasswordText


async def change_own(service: Service, caller: Caller, token: AccessToken, body: ChangeBody) -> None:
    """Change the password of the token's user, who gives the current one or has proved to be there.

    Every other session ends.

    Raises:
        ProofNeededError: there is no current one, and the session has not proved its user.
        WrongPasswordError: the present one is another.
        WeakPasswordError: the policy says no.
        OverloadedError: too many passwords wait to be hashed.
    """
    await _change(service, caller, token, body, keep=token.session_id)


async def change_own_anew(service: Service, caller: Caller, token: AccessToken, body: ChangeBody) -> Grant:
    """Change a password, end every session, and start a new one; otherwise like `change_own`.

    A browser proves its session by a cookie alone, of which there may be a copy (ASVS 5.0, 7.2.4).
    """
    granted = await _change(service, caller, token, body, keep=None)
    assert granted is not None  # noqa: S101 - where no session is kept, one is started
    return granted


async def _change(
    service: Service, caller: Caller, token: AccessToken, body: ChangeBody, *, keep: UUID | None
) -> Grant | None:
    await throttle_user(service, caller, token, ACCOUNT, purpose="password")
    known = await require_proof(service, caller, token, body.current_password)
    async with service.pool.connection() as conn:
        owner = await user.get_user(conn, token.user_id)
    if owner is None:
        raise AccessTokenInvalidError
    await check_new_password(
        service, body.new_password, email=owner.email, name=owner.name, field="new_password"
    )
    new_hash = await service.lane.hash(body.new_password, owner=caller.line, known=True)
    by = caller.as_user(token)
    granted = None
    async with service.pool.transaction() as conn:
        await change_password(
            conn, token.user_id, old_hash=known.password_hash, new_hash=new_hash, keep=keep, by=by
        )
        await forget_address(conn, service.secrets, known.email_key)
        await know_client(conn, service.secrets, known.email_key, by)
        if keep is None:
            granted = await start_session(
                conn,
                service.secrets,
                token.user_id,
                password_hash=new_hash,
                origin=caller.origin,
                client=caller.client,
                amr=token.amr or ["pwd"],
                follows=True,
            )
    log.info("password changed", user=str(token.user_id))
    return granted


async def ask_for_link(
    service: Service, caller: Caller, address: Address, once: Once | None = None
) -> datetime | None:
    """Queue a password reset mail, and return when the next one may be requested.

    Args:
        service: what to work with.
        caller: who asks.
        address: where it goes, if it has an account.
        once: by what the request is known when it comes again: one mail is booked for both.

    Raises:
        IdempotencyKeyReusedError, RequestInFlightError: see `claim_once`.
        ChallengeNeededError: proof of work is due.
        RateLimitedError: this client asks for too many.
        TooSoonError: the schedule says no.
    """
    await admit(service, caller, "forgot")
    turn = mail_schedule.reset_client_key(service.secrets, address.key, caller.origin)
    mail_id = uuid4()
    async with service.pool.transaction() as conn:
        if await claim_once(conn, once, mail_id) == mail_id:
            await take_turn(conn, caller, turn)
            await password_reset.add_forgot(conn, mail_id, address.key, caller.as_anyone())
        turns = await mail_schedule.next_turns(conn, [turn])
    log.info("new password asked for", mail=str(mail_id), recipient=mask_email(address.email))
    return turns.get(turn)


async def set_by_link(service: Service, caller: Caller, body: ResetBody) -> None:
    """Set a new password by the token of a reset link.

    Raises:
        RateLimitedError: this client tries too many links.
        TokenInvalidError, ResetExpiredError: the link is none of ours, or no longer good.
        WeakPasswordError: the policy says no; the link stays good.
        OverloadedError: too many passwords wait to be hashed.
    """
    await admit(service, caller, "reset")
    token = read_account_token(body.token)
    if token is None:
        raise TokenInvalidError
    async with service.pool.connection() as conn:
        owner = await password_reset.find_reset_subject(conn, service.secrets, token)
    await check_new_password(service, body.password, email=owner.email, name=owner.name)
    new_hash = await service.lane.hash(body.password, owner=caller.line)
    async with service.pool.transaction() as conn:
        await password_reset.reset_password(conn, service.secrets, token, new_hash, caller.as_anyone())
    log.info("password reset", user=str(owner.user_id))
