"""Signing up, and asking how it goes."""

from __future__ import annotations

from uuid import UUID, uuid4

import structlog
import trio
from pydantic import ConfigDict
from quart import Blueprint, Response, request

from regsvc.accounts.registration import (
    FINAL,
    NewRegistration,
    Registration,
    add_registration,
    get_registration,
)
from regsvc.http.answers import answer, timestamp
from regsvc.http.bodies import Body, EmailText, NameText, PasswordText, address_of, read_body
from regsvc.http.clients import get_client_word, get_origin
from regsvc.http.context import Context, get_context
from regsvc.http.problems import (
    FieldError,
    RegistrationNotFoundError,
    ValidationFailedError,
    WeakPasswordError,
)
from regsvc.mail.languages import LOCALES
from regsvc.security.passwords import check_password
from regsvc.security.tokens import handle_matches, mint_handle

log = structlog.get_logger()
blueprint = Blueprint("registrations", __name__)

HANDLE_HEADER = "Regsvc-Handle"
_DIGITS = 10
MAX_WAIT = 25  # seconds; under the half minute after which most proxies give up


class RegisterBody(Body):
    """A sign-up. Unknown fields are ignored: older clients send some."""

    model_config = ConfigDict(extra="ignore")

    email: EmailText
    password: PasswordText
    name: NameText


@blueprint.post("/register")
async def register() -> Response:
    """Take a sign-up: from the 201 on, the registration and its mail are durable together.

    Nothing here depends on whether the address has an account: the same statements run, for everybody.
    """
    context = get_context()
    body = await read_body(RegisterBody)
    address = address_of(body.email)
    weaknesses = check_password(
        context.settings.password_policy, body.password, email=address.email, name=body.name
    )
    if weaknesses:
        raise WeakPasswordError(
            weaknesses[0].detail, fields=[FieldError("/password", w.code, w.detail) for w in weaknesses]
        )
    new = NewRegistration(
        id=uuid4(),
        mail_id=uuid4(),
        email=address.email,
        email_key=address.key,
        name=body.name,
        locale=request.accept_languages.best_match(LOCALES, default=LOCALES[0]),
        password_hash=await context.lane.hash(body.password),
        origin=get_origin(),
        client=get_client_word(),
    )
    async with context.pool.transaction() as conn:
        await add_registration(conn, new)
    log.info("mail queued", mail=str(new.mail_id), registration=str(new.id), recipient=new.email)
    shown: dict[str, object] = {"message": "User registered successfully!"}
    handle = mint_handle(context.secrets, new.id)
    if _prefers_representation():
        shown["registration"] = {"id": str(new.id), "handle": handle, "state": "queued", "seq": 1}
    return answer(
        shown,
        201,
        {"Location": f"/api/v1/registrations/{new.id}", HANDLE_HEADER: handle, "Vary": "Prefer"},
    )


@blueprint.get("/registrations/<registration_id>")
async def show(registration_id: str) -> Response:
    """Show a registration to whoever holds its handle; `?wait=S` waits for a change first.

    With `&seq=N` the wait is over at once when the registration is past `N` already, so that no change falls
    between two calls.
    """
    context = get_context()
    known = check_handle(context, registration_id, request.headers.get(HANDLE_HEADER, ""))
    wait = _read_number("wait", 0, MAX_WAIT)
    seen = _read_number("seq", None, 2**31 - 1)
    with context.hub.waiting(known) as waiter:
        registration = await _get(context, known)
        if wait and seen is None:
            seen = registration.seq
        with trio.move_on_after(wait or 0):
            while wait and registration.seq <= (seen or 0) and registration.state not in FINAL:
                await waiter.wait_change()
                registration = await _get(context, known)
    return answer(
        {
            "id": str(registration.id),
            "state": registration.state,
            "seq": registration.seq,
            "attempts": registration.attempts,
            "next_try_at": timestamp(registration.next_try_at),
            "reason": registration.reason,
            "next_resend_at": None,
            "expires_at": timestamp(registration.expires_at),
        }
    )


def check_handle(context: Context, registration_id: str, handle: str) -> UUID:
    """Return the id of a registration that the handle opens.

    Raises:
        RegistrationNotFoundError: it does not, or the id is none.
    """
    try:
        known = UUID(registration_id)
    except ValueError:
        raise RegistrationNotFoundError from None
    if str(known) != registration_id or not handle_matches(context.secrets, known, handle):
        raise RegistrationNotFoundError
    return known


async def _get(context: Context, registration_id: UUID) -> Registration:
    async with context.pool.connection() as conn:
        registration = await get_registration(conn, registration_id)
    if registration is None:
        raise RegistrationNotFoundError
    return registration


def _prefers_representation() -> bool:
    """Say whether the client asked for the registration in the answer (RFC 7240 section 4.2)."""
    wishes = ",".join(request.headers.getlist("Prefer")).split(",")
    return any(wish.strip().lower() == "return=representation" for wish in wishes)


def _read_number(name: str, default: int | None, most: int) -> int | None:
    text = request.args.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS):
        raise ValidationFailedError(
            f"`{name}` has to be a whole number.",
            fields=[FieldError(f"?{name}", "invalid", "not a whole number")],
        )
    return min(int(text), most)
