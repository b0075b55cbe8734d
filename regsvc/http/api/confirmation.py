"""Confirming an address, by the link or the code of the mail; or saying that it was somebody else.

GET and HEAD change nothing here: programs that look at every link in a mail before its reader does cannot spend
one. Only a POST does, which the page behind the link sends when a person presses its button.
"""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import structlog
from pydantic import Field, StringConstraints
from quart import Blueprint, Response, request
from typing_extensions import TypedDict  # pydantic reads this one alone before Python 3.12

from regsvc.accounts.audit.record import record
from regsvc.accounts.limits.rate_limit import RateLimitedError
from regsvc.accounts.registrations import confirmation, link_preview
from regsvc.accounts.registrations.registration import RegistrationNotFoundError
from regsvc.errors import DatabaseUnavailableError, OverloadedError
from regsvc.http.api.registrations import HANDLE, HANDLE_HEADER, check_handle
from regsvc.http.context import Context, get_context
from regsvc.http.openapi.operation import Parameter, documented
from regsvc.http.request.actor import by_anyone
from regsvc.http.request.body import read_body
from regsvc.http.request.rate_limits import CONFIRM, throttle
from regsvc.http.response.json_response import answer, empty
from regsvc.logs import mask_email
from regsvc.schemas.fields import Body, PasswordText, TokenText
from regsvc.schemas.formats import Message, Nothing, Timestamp, timestamp
from regsvc.security.tokens import LinkToken, handle_matches, read_link_token

log = structlog.get_logger()
blueprint = Blueprint("confirmation", __name__)

_CONFIRMED: Message = {"message": "email confirmed"}
_VOIDED: Message = {"message": "registration voided"}


class ConfirmBody(Body):
    """The link's token and, where several sign-ups wait for the address, the password of one of them."""

    token: TokenText
    password: PasswordText | None = None


class CodeBody(Body):
    """The registration and the six digits from its mail."""

    registration: Annotated[str, StringConstraints(max_length=64)]
    code: Annotated[str, StringConstraints(max_length=32)]


class PreviewBody(Body):
    """The link's token."""

    token: TokenText


class RepudiateBody(Body):
    """The token of the mail that should not have come."""

    token: TokenText


class Previewed(TypedDict):
    """The attempt that a link is about."""

    email: Annotated[str, Field(description="Masked: its first character and its domain.")]
    at: Annotated[Timestamp, Field(description="When the sign-up came.")]
    origin: Annotated[str, Field(description="The network that it came from, or `unknown`.")]
    client: Annotated[
        str, Field(description="A short word for the software that it came from, or `unknown`.")
    ]
    confirmed: Annotated[bool, Field(description="It has been confirmed already.")]


_HANDLE = Parameter(
    HANDLE_HEADER, "The sign-up's secret, where there is one: says which of several is meant."
)
_OLD_TOKEN = Parameter("token", "As it stands in the link.", where="query")


@blueprint.post("/confirm-email")
@documented(
    {200: Message},
    body=ConfirmBody,
    parameters=[_HANDLE],
    errors=[
        confirmation.TokenInvalidError,
        confirmation.PasswordNeededError,
        confirmation.TokenExpiredError,
        RateLimitedError,
        OverloadedError,
        DatabaseUnavailableError,
    ],
)
async def confirm() -> Response:
    """Confirm by the link's token; again the same answer while the token lives."""
    context = get_context()
    body = await read_body(ConfirmBody)
    token = _read_token(body.token)
    await throttle(CONFIRM)
    chosen = None
    if body.password is not None:
        chosen = await _find_attempt(context, token, body.password)
    handle = request.headers.get(HANDLE_HEADER, "")
    async with context.pool.transaction() as conn:
        changed = await confirmation.confirm_by_link(
            conn,
            context.secrets,
            token,
            chosen=chosen,
            has_handle=handle_matches(context.secrets, token.registration_id, handle),
            password_required=context.settings.confirm_requires_password,
            by=by_anyone(),
        )
    if changed:
        log.info("address confirmed", registration=str(chosen or token.registration_id), by="link")
    return answer(_CONFIRMED)


@blueprint.post("/confirm-email/code")
@documented(
    {200: Message},
    body=CodeBody,
    parameters=[HANDLE],
    errors=[
        confirmation.CodeInvalidError,
        RegistrationNotFoundError,
        confirmation.TokenExpiredError,
        confirmation.CodeTriesExhaustedError,
        RateLimitedError,
        DatabaseUnavailableError,
    ],
)
async def confirm_by_code() -> Response:
    """Confirm by the six digits, for whoever holds the registration's handle."""
    context = get_context()
    body = await read_body(CodeBody)
    known = check_handle(context, body.registration, request.headers.get(HANDLE_HEADER, ""))
    await enter_code(context, known, body.code)
    return answer(_CONFIRMED)


async def enter_code(context: Context, known: UUID, code: str) -> None:
    """Confirm a registration, whose handle the caller has checked, by its code; spaces do not matter.

    Raises:
        RateLimitedError: this client tries too much.
        CodeInvalidError, CodeTriesExhaustedError, TokenExpiredError: it does not.
    """
    await throttle(CONFIRM)
    async with context.pool.transaction() as conn:
        outcome = await confirmation.try_code(
            conn, context.secrets, known, "".join(code.split()), by_anyone()
        )
    match outcome:
        case "wrong":
            raise confirmation.CodeInvalidError
        case "exhausted":
            raise confirmation.CodeTriesExhaustedError
        case "expired":
            raise confirmation.TokenExpiredError
    log.info("address confirmed", registration=str(known), by="code")


@blueprint.post("/confirm-email/preview")
@documented(
    {200: Previewed},
    body=PreviewBody,
    errors=[
        confirmation.TokenInvalidError,
        confirmation.TokenExpiredError,
        link_preview.TokenVoidError,
        RateLimitedError,
        DatabaseUnavailableError,
    ],
)
async def show_preview() -> Response:
    """Say what a link would confirm: when, roughly from where and with what its sign-up came. It changes nothing."""
    context = get_context()
    body = await read_body(PreviewBody)
    await throttle(CONFIRM)
    async with context.pool.connection() as conn:
        found = await link_preview.preview_link(conn, context.secrets, _read_token(body.token))
    shown: Previewed = {
        "email": mask_email(found.email),
        "at": timestamp(found.created_at),
        "origin": found.origin,
        "client": found.client,
        "confirmed": found.state == "confirmed",
    }
    return answer(shown)


@blueprint.post("/confirm-email/repudiate")
@documented(
    {200: Message},
    body=RepudiateBody,
    errors=[
        confirmation.TokenInvalidError,
        confirmation.AlreadyConfirmedError,
        confirmation.TokenExpiredError,
        RateLimitedError,
        DatabaseUnavailableError,
    ],
)
async def repudiate() -> Response:
    """Void the attempt: the reader of the mail says that it was not theirs."""
    context = get_context()
    body = await read_body(RepudiateBody)
    token = _read_token(body.token)
    await throttle(CONFIRM)
    async with context.pool.transaction() as conn:
        await confirmation.repudiate(conn, context.secrets, token)
        await record(conn, "registration_repudiated", by_anyone(), registration=str(token.registration_id))
    log.info("registration repudiated", registration=str(token.registration_id))
    return answer(_VOIDED)


@blueprint.get("/confirm-email")
@documented(
    {303: Nothing}, parameters=[_OLD_TOKEN], headers={"Location": "The page, with the token in its fragment."}
)
async def open_page() -> Response:
    """Lead the links of older mails to the page; the token moves to the fragment, where no log sees it."""
    token = request.args.get("token", "")
    target = f"{get_context().settings.public_url}/confirm"
    if read_link_token(token) is not None:
        target += f"#t={token}"
    response = empty(303)  # a body would have the token once more
    response.headers["Location"] = target
    return response


def _read_token(text: str) -> LinkToken:
    token = read_link_token(text)
    if token is None:
        raise confirmation.TokenInvalidError
    return token


async def _find_attempt(context: Context, token: LinkToken, password: str) -> UUID | None:
    """Return the live attempt that was made with this password; None when the address is confirmed already.

    Raises:
        PasswordNeededError: none was.
    """
    async with context.pool.connection() as conn:
        candidates = await confirmation.list_candidates(conn, context.secrets, token)
    for attempt, stored in candidates:
        if (await context.lane.verify(password, stored)).ok:
            return attempt
    if candidates:
        raise confirmation.PasswordNeededError
    return None
