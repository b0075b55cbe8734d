"""Moving one's account to another address.

Nothing here looks the new address up: whether it has an account is told to its owner alone, by mail.
"""

from __future__ import annotations

import secrets
from datetime import datetime
from uuid import uuid4

import structlog
from quart import Blueprint, Response
from typing_extensions import TypedDict  # pydantic reads this one alone before Python 3.12

from regsvc.accounts.address import Address
from regsvc.accounts.limits import mail_schedule
from regsvc.accounts.limits.mail_schedule import TooSoonError
from regsvc.accounts.limits.rate_limit import RateLimitedError
from regsvc.accounts.registrations.confirmation import TokenExpiredError, TokenInvalidError
from regsvc.accounts.users import email_change, user
from regsvc.accounts.users.password import WrongPasswordError
from regsvc.errors import DatabaseUnavailableError, FieldError, OverloadedError, ValidationFailedError
from regsvc.http.api.login import authenticate
from regsvc.http.api.resend import take_turn
from regsvc.http.context import Context, get_context
from regsvc.http.openapi.operation import documented
from regsvc.http.reauthentication import verify_password
from regsvc.http.request.actor import by_anyone, by_user
from regsvc.http.request.body import read_body
from regsvc.http.request.rate_limits import CONFIRM, throttle
from regsvc.http.response.json_response import answer
from regsvc.schemas.fields import Body, EmailText, PasswordText, TokenText, address_of
from regsvc.schemas.formats import Message, Timestamp, timestamp
from regsvc.security.keys import AccessToken, AccessTokenInvalidError
from regsvc.security.tokens import AccountToken, read_account_token

log = structlog.get_logger()
blueprint = Blueprint("email_change", __name__)

_MOVED: Message = {"message": "email changed"}
_UNDONE: Message = {"message": "email restored"}


class MoveBody(Body):
    """The address as it shall be, and the password."""

    email: EmailText
    password: PasswordText


class LinkBody(Body):
    """The token of the link."""

    token: TokenText


class MoveAsked(TypedDict):
    """The new address is asked to confirm."""

    message: str
    next_resend_at: Timestamp | None


@blueprint.post("/me/email")
@documented(
    {202: MoveAsked},
    body=MoveBody,
    needs_token=True,
    errors=[
        WrongPasswordError,
        RateLimitedError,
        TooSoonError,
        OverloadedError,
        DatabaseUnavailableError,
    ],
)
async def ask() -> Response:
    """Ask to move to another address, which gets a link; the answer is the same whether or not it has an account."""
    context = get_context()
    token = await authenticate(context)
    body = await read_body(MoveBody)
    shown: MoveAsked = {
        "message": "The new address gets a mail; open its link to confirm.",
        "next_resend_at": timestamp(await ask_move(context, token, address_of(body.email), body.password)),
    }
    return answer(shown, 202)


async def ask_move(context: Context, token: AccessToken, address: Address, password: str) -> datetime | None:
    """Book the mail to the new address, and return when the next one may be asked for.

    Raises:
        WrongPasswordError: it is another one.
        RateLimitedError: the client is too fast, or guesses.
        ValidationFailedError: the account has this address.
        TooSoonError: the schedule says no.
    """
    known = await verify_password(context, token, password)
    turn, mail_id = mail_schedule.mover_key(context.secrets, token.user_id), uuid4()
    async with context.pool.transaction() as conn:
        owner = await user.get_user(conn, token.user_id)
        if owner is None:
            raise AccessTokenInvalidError
        if owner.email == address.email:
            detail = "Your account has this address already."
            raise ValidationFailedError(detail, fields=[FieldError("/email", "same_address", detail)])
        await take_turn(conn, turn)
        await email_change.ask_move(
            conn, mail_id, token.user_id, address, password_hash=known.password_hash, by=by_user(token)
        )
        turns = await mail_schedule.next_turns(conn, [turn])
    log.info("address change asked for", mail=str(mail_id), user=str(token.user_id))
    return turns.get(turn)


@blueprint.post("/me/email/confirm")
@documented(
    {200: Message},
    body=LinkBody,
    errors=[TokenInvalidError, TokenExpiredError, RateLimitedError, DatabaseUnavailableError],
)
async def confirm() -> Response:
    """Confirm the new address with the link that went there; the old one is told, and may undo it for 7 days."""
    context = get_context()
    await confirm_move(context, await read_body(LinkBody))
    return answer(_MOVED)


async def confirm_move(context: Context, body: LinkBody) -> None:
    """Move the account that a link is about.

    Raises:
        RateLimitedError: this client tries too many links.
        TokenInvalidError, MoveExpiredError: the link is none of ours, or no longer good.
    """
    await throttle(CONFIRM)
    token = _read_token(body.token)
    async with context.pool.transaction() as conn:
        user_id = await email_change.confirm_move(conn, context.secrets, token, by_anyone())
    log.info("address changed", user=str(user_id))


@blueprint.post("/me/email/undo")
@documented(
    {200: Message},
    body=LinkBody,
    errors=[
        TokenInvalidError,
        TokenExpiredError,
        RateLimitedError,
        OverloadedError,
        DatabaseUnavailableError,
    ],
)
async def undo() -> Response:
    """Give the account its old address back with the link that went there.

    Every session ends, the password is void, and a link to choose a new one is mailed to the address.
    """
    context = get_context()
    await undo_move(context, await read_body(LinkBody))
    return answer(_UNDONE)


async def undo_move(context: Context, body: LinkBody) -> None:
    """Undo the move that a link is about.

    Raises:
        RateLimitedError: this client tries too many links.
        TokenInvalidError, MoveExpiredError: the link is none of ours, or no longer good.
        OverloadedError: too many passwords wait to be hashed.
    """
    await throttle(CONFIRM)
    token = _read_token(body.token)
    async with context.pool.connection() as conn:
        await email_change.check_undo(conn, context.secrets, token)
    unknown_hash = await context.lane.hash(secrets.token_urlsafe(32))
    async with context.pool.transaction() as conn:
        user_id = await email_change.undo_move(conn, context.secrets, token, unknown_hash, by_anyone())
    log.warning("address change undone", user=str(user_id))


def _read_token(text: str) -> AccountToken:
    token = read_account_token(text)
    if token is None:
        raise TokenInvalidError
    return token
