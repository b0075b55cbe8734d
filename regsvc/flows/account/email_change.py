"""Change the email address of an account.

Nothing here looks the new address up: whether it has an account is told to its owner alone, by mail.
"""

from __future__ import annotations

from datetime import datetime
from uuid import uuid4

import structlog

from regsvc.accounts.address import Address
from regsvc.accounts.limits import mail_schedule
from regsvc.accounts.registrations.confirmation import TokenInvalidError
from regsvc.accounts.users import email_change, email_undo, user
from regsvc.errors import FieldError, ValidationFailedError
from regsvc.flows.caller import Caller
from regsvc.flows.login.proof import require_proof
from regsvc.flows.login.reauthentication import verify_password_of
from regsvc.flows.rate_limits import ACCOUNT, CONFIRM, admit, throttle, throttle_user
from regsvc.flows.service import Service
from regsvc.flows.signup.policy import check_domain
from regsvc.flows.signup.resend import take_turn
from regsvc.schemas.fields import Body, EmailText, PasswordText, TokenText
from regsvc.security.signing.access_token import AccessToken, AccessTokenInvalidError
from regsvc.security.tokens import AccountToken, read_account_token

log = structlog.get_logger()


class EmailChangeBody(Body):
    """The new address, and the password unless the session has proved its user."""

    email: EmailText
    password: PasswordText | None = None


class ConfirmChangeBody(Body):
    """The token of the link and, where the client is not logged in to the account, its password."""

    token: TokenText
    password: PasswordText | None = None


class LinkBody(Body):
    """The token of the link."""

    token: TokenText


async def ask_change(
    service: Service, caller: Caller, token: AccessToken, address: Address, password: str | None
) -> datetime | None:
    """Queue the mail to the new address, and return when the next one may be requested.

    Raises:
        DomainNotAllowedError: addresses of its domain are not accepted.
        ChallengeNeededError: proof of work is due.
        ProofNeededError: there is no password, and the session has not proved its user.
        WrongPasswordError: it is another one.
        RateLimitedError: the client is too fast, or guesses.
        ValidationFailedError: the account has this address.
        TooSoonError: the schedule says no.
    """
    check_domain(service.settings, address)
    await throttle_user(service, caller, token, ACCOUNT, purpose="password")
    known = await require_proof(service, caller, token, password)
    turn, mail_id = mail_schedule.changer_key(service.secrets, token.user_id), uuid4()
    async with service.pool.transaction() as conn:
        owner = await user.get_user(conn, token.user_id)
        if owner is None:
            raise AccessTokenInvalidError
        if owner.email == address.email:
            detail = "Your account has this address already."
            raise ValidationFailedError(detail, fields=[FieldError("/email", "same_address", detail)])
        await take_turn(conn, caller, turn)
        await email_change.ask_change(
            conn, mail_id, token.user_id, address, password_hash=known.password_hash, by=caller.as_user(token)
        )
        turns = await mail_schedule.next_turns(conn, [turn])
    log.info("address change asked for", mail=str(mail_id), user=str(token.user_id))
    return turns.get(turn)


async def confirm_change(
    service: Service, caller: Caller, body: ConfirmChangeBody, visitor: AccessToken | None
) -> None:
    """Give an account its new address, by the token of a link.

    Args:
        service: what to work with.
        caller: who presses the link.
        body: the link's token, and the account's password where there is no session.
        visitor: the user who is logged in at this client, if there is one.

    Raises:
        RateLimitedError: this client tries too many links or passwords.
        TokenInvalidError, EmailChangeExpiredError: the link is none of ours, or no longer good.
        EmailChangeUnprovedError: the client is not logged in to the account and gives no password.
        WrongPasswordError: it is not the account's.
        OverloadedError: too many passwords wait to be verified.
    """
    await throttle(service, caller, CONFIRM)
    token = _read_token(body.token)
    async with service.pool.connection() as conn:
        user_id = await email_change.find_changing_user(conn, service.secrets, token)
    if user_id is None:
        return
    if visitor is None or visitor.user_id != user_id:
        if body.password is None:
            raise email_change.EmailChangeUnprovedError
        await verify_password_of(service, caller, user_id, body.password, caller.as_anyone())
    async with service.pool.transaction() as conn:
        # A password that is changed meanwhile voids the move.
        await email_change.confirm_change(conn, service.secrets, token, caller.as_anyone())
    log.info("address changed", user=str(user_id))


async def repudiate_change(service: Service, caller: Caller, body: LinkBody) -> None:
    """Cancel an email change by the token of a link: the reader of the mail did not request it.

    Raises:
        RateLimitedError: this client tries too many links.
        TokenInvalidError, EmailChangeExpiredError: the link is none of ours, or the account has moved.
    """
    await throttle(service, caller, CONFIRM)
    token = _read_token(body.token)
    async with service.pool.transaction() as conn:
        await email_change.repudiate_change(conn, service.secrets, token, caller.as_anyone())
    log.info("address change repudiated", move=str(token.id))


async def undo_change(service: Service, caller: Caller, body: LinkBody) -> datetime | None:
    """Undo an email change, or return when that is possible: the new address is notified first.

    Raises:
        RateLimitedError: this client tries too many links.
        TokenInvalidError, EmailChangeExpiredError: the link is none of ours, or no longer good.
    """
    await admit(service, caller, "undo")
    token = _read_token(body.token)
    async with service.pool.transaction() as conn:
        undo_at = await email_undo.begin_undo(conn, service.secrets, token, caller.as_anyone())
    if undo_at is not None:
        log.warning("address change will be undone", move=str(token.id))
        return undo_at
    async with service.pool.transaction() as conn:
        user_id = await email_undo.undo_change(conn, service.secrets, token, caller.as_anyone())
    log.warning("address change undone", user=str(user_id))
    return None


def _read_token(text: str) -> AccountToken:
    token = read_account_token(text)
    if token is None:
        raise TokenInvalidError
    return token
