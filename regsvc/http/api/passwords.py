"""Choosing another password: knowing the old one, or having forgotten it.

Whether an address has an account is not looked up when somebody says that they forgot its password: the wish is stored
for everybody alike, and decided on when its mail is taken in hand. No password is hashed inside a transaction.
"""

from __future__ import annotations

from datetime import datetime
from uuid import uuid4

import structlog
from quart import Blueprint, Response
from typing_extensions import TypedDict  # pydantic reads this one alone before Python 3.12

from regsvc.accounts.address import Address
from regsvc.accounts.limits import mail_schedule
from regsvc.accounts.limits.idempotency import Once, claim_once
from regsvc.accounts.limits.mail_schedule import TooSoonError
from regsvc.accounts.limits.rate_limit import RateLimitedError
from regsvc.accounts.registrations.confirmation import TokenExpiredError, TokenInvalidError
from regsvc.accounts.users import password_reset, user
from regsvc.accounts.users.password import WrongPasswordError, change_password
from regsvc.errors import DatabaseUnavailableError, OverloadedError, WeakPasswordError
from regsvc.http.api.login import authenticate
from regsvc.http.api.resend import take_turn
from regsvc.http.context import Context, get_context
from regsvc.http.new_passwords import check_new_password
from regsvc.http.openapi.operation import documented
from regsvc.http.reauthentication import verify_password
from regsvc.http.request import idempotency
from regsvc.http.request.actor import by_anyone, by_user
from regsvc.http.request.body import read_body
from regsvc.http.request.client import get_origin
from regsvc.http.request.idempotency import read_once
from regsvc.http.request.rate_limits import CONFIRM, MAIL_REQUEST, throttle
from regsvc.http.response.json_response import answer, empty
from regsvc.schemas.fields import Body, EmailText, PasswordText, TokenText, address_of
from regsvc.schemas.formats import Nothing, Timestamp, timestamp
from regsvc.security.keys import AccessToken, AccessTokenInvalidError
from regsvc.security.tokens import read_account_token

log = structlog.get_logger()
blueprint = Blueprint("passwords", __name__)


class ChangeBody(Body):
    """The password as it is, and as it shall be."""

    current_password: PasswordText
    new_password: PasswordText


class ForgotBody(Body):
    """The address of the account."""

    email: EmailText


class ResetBody(Body):
    """The token of the link, and the password as it shall be."""

    token: TokenText
    password: PasswordText


class Asked(TypedDict):
    """A mail is on its way if this address has an account."""

    message: str
    next_resend_at: Timestamp | None


@blueprint.put("/me/password")
@documented(
    {204: Nothing},
    body=ChangeBody,
    needs_token=True,
    errors=[
        WrongPasswordError,
        WeakPasswordError,
        RateLimitedError,
        OverloadedError,
        DatabaseUnavailableError,
    ],
)
async def change() -> Response:
    """Choose another password, knowing the present one; every other session ends, and the owner is told by mail."""
    context = get_context()
    await change_own(context, await authenticate(context), await read_body(ChangeBody))
    return empty()


async def change_own(context: Context, token: AccessToken, body: ChangeBody) -> None:
    """Set another password for whoever is logged in and knows the present one.

    Raises:
        WrongPasswordError: they do not.
        WeakPasswordError: the policy says no.
        OverloadedError: too many passwords wait to be hashed.
    """
    known = await verify_password(context, token, body.current_password)
    async with context.pool.connection() as conn:
        owner = await user.get_user(conn, token.user_id)
    if owner is None:
        raise AccessTokenInvalidError
    await check_new_password(
        context, body.new_password, email=owner.email, name=owner.name, field="new_password"
    )
    new_hash = await context.lane.hash(body.new_password)
    async with context.pool.transaction() as conn:
        await change_password(
            conn,
            token.user_id,
            old_hash=known.password_hash,
            new_hash=new_hash,
            session_id=token.session_id,
            by=by_user(token),
        )
    log.info("password changed", user=str(token.user_id))


@blueprint.post("/password/forgot")
@documented(
    {202: Asked},
    body=ForgotBody,
    parameters=[idempotency.PARAMETER],
    errors=[*idempotency.ERRORS, RateLimitedError, TooSoonError, DatabaseUnavailableError],
)
async def forgot() -> Response:
    """Ask for a link to choose a new password; the answer is the same whether or not the address has an account."""
    body = await read_body(ForgotBody)
    shown: Asked = {
        "message": "If this address has an account, a mail to choose a new password is on the way.",
        "next_resend_at": timestamp(
            await ask_for_link(get_context(), address_of(body.email), read_once(body))
        ),
    }
    return answer(shown, 202)


async def ask_for_link(context: Context, address: Address, once: Once | None = None) -> datetime | None:
    """Book the mail of somebody who forgot their password, and return when the next one may be asked for.

    Args:
        context: what to work with.
        address: where it goes, if it has an account.
        once: by what the request is known when it comes again: one mail is booked for both.

    Raises:
        IdempotencyKeyReusedError, RequestInFlightError: see `claim_once`.
        RateLimitedError: this client asks for too many.
        TooSoonError: the schedule says no.
    """
    await throttle(MAIL_REQUEST)
    turn = mail_schedule.reset_client_key(context.secrets, address.key, get_origin())
    mail_id = uuid4()
    async with context.pool.transaction() as conn:
        if await claim_once(conn, once, mail_id) == mail_id:
            await take_turn(conn, turn)
            await password_reset.add_forgot(conn, mail_id, address.key, by_anyone())
        turns = await mail_schedule.next_turns(conn, [turn])
    log.info("new password asked for", mail=str(mail_id), recipient=address.email)
    return turns.get(turn)


@blueprint.post("/password/reset")
@documented(
    {204: Nothing},
    body=ResetBody,
    errors=[
        TokenInvalidError,
        TokenExpiredError,
        WeakPasswordError,
        RateLimitedError,
        OverloadedError,
        DatabaseUnavailableError,
    ],
)
async def reset() -> Response:
    """Choose a new password with the link's token: good once; every session ends, and the owner is told by mail."""
    body = await read_body(ResetBody)
    await set_by_link(get_context(), body)
    return empty()


async def set_by_link(context: Context, body: ResetBody) -> None:
    """Set a new password for whoever has a link.

    Raises:
        RateLimitedError: this client tries too many links.
        TokenInvalidError, ResetExpiredError: the link is none of ours, or no longer good.
        WeakPasswordError: the policy says no; the link stays good.
        OverloadedError: too many passwords wait to be hashed.
    """
    await throttle(CONFIRM)
    token = read_account_token(body.token)
    if token is None:
        raise TokenInvalidError
    async with context.pool.connection() as conn:
        owner = await password_reset.find_forgetful(conn, context.secrets, token)
    await check_new_password(context, body.password, email=owner.email, name=owner.name)
    new_hash = await context.lane.hash(body.password)
    async with context.pool.transaction() as conn:
        await password_reset.reset_password(conn, context.secrets, token, new_hash, by_anyone())
    log.info("password reset", user=str(owner.user_id))
