"""Asking for the confirmation mail again, or at another address.

Whether anybody waits for such a mail is not looked up here: the wish is stored, and decided on when its mail is taken
in hand. What is shown, the time of the next wish, depends on what this client typed before and on nothing else.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID, uuid4

import structlog
from pydantic import StringConstraints
from quart import Blueprint, Response, request
from typing_extensions import TypedDict  # pydantic reads this one alone before Python 3.12

from regsvc.accounts.address import Address
from regsvc.accounts.limits import mail_schedule
from regsvc.accounts.limits.idempotency import Once, claim_once
from regsvc.accounts.limits.mail_schedule import TooSoonError
from regsvc.accounts.limits.rate_limit import RateLimitedError
from regsvc.accounts.registrations import registration
from regsvc.errors import DatabaseUnavailableError
from regsvc.http.api.registrations import HANDLE, HANDLE_HEADER, check_handle
from regsvc.http.context import Context, get_context
from regsvc.http.openapi.operation import Parameter, documented
from regsvc.http.request import idempotency
from regsvc.http.request.body import read_body
from regsvc.http.request.client import get_origin, limits_apply
from regsvc.http.request.rate_limits import MAIL_REQUEST, REGISTER, REGISTER_DAY, throttle
from regsvc.http.response.json_response import answer
from regsvc.mail.queue import jobs
from regsvc.postgres.connection import Connection
from regsvc.schemas.fields import Body, EmailText, address_of
from regsvc.schemas.formats import Timestamp, timestamp

log = structlog.get_logger()
blueprint = Blueprint("resending", __name__)


class ResendBody(Body):
    """The address; with the registration (and its handle) it is that attempt's mail that comes again."""

    email: EmailText
    registration: Annotated[str, StringConstraints(max_length=64)] | None = None


class AddressBody(Body):
    """The address as it should have been."""

    email: EmailText


class Resent(TypedDict):
    """A mail is on its way if a sign-up waits for this address."""

    message: str
    next_resend_at: Timestamp | None


_HANDLE = Parameter(HANDLE_HEADER, "The sign-up's secret, if `registration` is given.")


@blueprint.post("/confirm-email/resend")
@documented(
    {202: Resent},
    body=ResendBody,
    parameters=[_HANDLE, idempotency.PARAMETER],
    errors=[
        *idempotency.ERRORS,
        registration.RegistrationNotFoundError,
        RateLimitedError,
        TooSoonError,
        DatabaseUnavailableError,
    ],
)
async def resend() -> Response:
    """Ask for the confirmation mail once more; the answer is the same whether or not anybody waits for it."""
    context = get_context()
    body = await read_body(ResendBody)
    wanted = None
    if body.registration is not None:
        wanted = check_handle(context, body.registration, request.headers.get(HANDLE_HEADER, ""))
    again_at = await ask_again(context, address_of(body.email), wanted, idempotency.read_once(body))
    shown: Resent = {
        "message": "If a sign-up waits for this address, its mail is on the way.",
        "next_resend_at": timestamp(again_at),
    }
    return answer(shown, 202)


async def ask_again(
    context: Context, address: Address, wanted: UUID | None, once: Once | None = None
) -> datetime | None:
    """Book another mail to an address and return when the next one may be asked for.

    Args:
        context: what to work with.
        address: where it goes, if a sign-up waits for it.
        wanted: the registration that is meant, whose handle the caller has checked.
        once: by what the request is known when it comes again: one mail is booked for both.

    Raises:
        IdempotencyKeyReusedError, RequestInFlightError: see `claim_once`.
        RateLimitedError: this client asks for too many.
        TooSoonError: the schedule says no.
    """
    await throttle(MAIL_REQUEST)
    turn = (
        mail_schedule.registration_key(context.secrets, wanted)
        if wanted
        else mail_schedule.client_key(context.secrets, address.key, get_origin())
    )
    mail_id = uuid4()
    async with context.pool.transaction() as conn:
        if await claim_once(conn, once, mail_id) == mail_id:
            await take_turn(conn, turn)
            await jobs.add_resend(conn, mail_id, address.key, wanted=wanted)
        turns = await mail_schedule.next_turns(conn, [turn])
    log.info("mail asked for again", mail=str(mail_id), recipient=address.email)
    return turns.get(turn)


@blueprint.patch("/registrations/<registration_id>")
@documented(
    {202: Resent},
    body=AddressBody,
    parameters=[HANDLE],
    errors=[
        registration.RegistrationNotFoundError,
        registration.RegistrationOverError,
        RateLimitedError,
        TooSoonError,
        DatabaseUnavailableError,
    ],
)
async def change_address(registration_id: str) -> Response:
    """Send the mail of a registration to another address: a typo is mended before anybody confirmed.

    The old mail is cancelled, its link and code are dead. Whether the new address has an account is not told.
    """
    context = get_context()
    known = check_handle(context, registration_id, request.headers.get(HANDLE_HEADER, ""))
    body = await read_body(AddressBody)
    shown: Resent = {
        "message": "The mail goes to the new address.",
        "next_resend_at": timestamp(await move(context, known, address_of(body.email))),
    }
    return answer(shown, 202)


async def move(context: Context, known: UUID, address: Address) -> datetime | None:
    """Send the mail of a registration, whose handle the caller has checked, elsewhere; as `ask_again`.

    Raises:
        RegistrationOverError: it is over.
        RateLimitedError: this client signs too many people up.
        TooSoonError: the new address's schedule says no.
    """
    await throttle(REGISTER, REGISTER_DAY)
    turn = mail_schedule.registration_key(context.secrets, known)
    async with context.pool.transaction() as conn:
        await take_turn(conn, mail_schedule.client_key(context.secrets, address.key, get_origin()))
        await registration.change_address(conn, known, address, uuid4())
        turns = await mail_schedule.next_turns(conn, [turn])
    log.info("address changed before confirmation", registration=str(known), recipient=address.email)
    return turns.get(turn)


async def take_turn(conn: Connection, turn: bytes) -> None:
    """Take a turn on a schedule that the client is shown.

    Raises:
        TooSoonError: it has not come.
    """
    if limits_apply() and turn not in await mail_schedule.take_turns(conn, [turn]):
        raise TooSoonError((await mail_schedule.next_turns(conn, [turn]))[turn])
