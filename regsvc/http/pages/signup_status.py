"""What becomes of a sign-up, for browsers without scripts: steps, code, a second mail, another address.

With scripts all this is on the page of the sign-up and moves by itself. Here a cookie holds the handle, and every form
leads back to a page that can be read again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from uuid import UUID

from quart import Response, request

from regsvc.accounts.registrations.link_preview import get_recipient
from regsvc.accounts.registrations.registration import (
    FINAL,
    UNSENT,
    Registration,
    RegistrationNotFoundError,
    RegistrationOverError,
)
from regsvc.errors import RegsvcError
from regsvc.flows.signup.confirmation import confirm_by_code
from regsvc.flows.signup.resend import AddressBody, ask_again, correct_address
from regsvc.flows.signup.signup import check_handle, read_registration
from regsvc.http.context import Context, get_context
from regsvc.http.pages.error_texts import explain_error
from regsvc.http.pages.forms import comes_from, get_cookies, lead_to, read_form, set_cookie
from regsvc.http.pages.page import blueprint, show_cookies_needed, show_page, tell_when
from regsvc.http.pages.texts import Texts, get_words
from regsvc.http.pages.times import say_moment
from regsvc.http.pages.waiting.absence import explain_absence
from regsvc.http.pages.waiting.mailbox import find_mailbox
from regsvc.http.request.body import read_values
from regsvc.http.request.caller import get_caller
from regsvc.http.response.problems import find_status
from regsvc.mail.outcome import CONNECTION_REASONS
from regsvc.schemas.fields import address_of
from regsvc.security.tokens import mint_handle

_COOKIE = "regsvc-signup"
_STATUS = "/signup/status"
# Where the forms of the component `waiting.html` go.
PATHS = {"code": "/signup/code", "resend": "/signup/resend", "address": "/signup/address", "again": ""}
# Seconds until a page whose state will change by itself looks again; a code that is being typed is left alone.
_LOOK_AGAIN = {"queued": 2, "sending": 2, "delayed": 30}
_REASONS = {
    **dict.fromkeys(CONNECTION_REASONS, "connection"),
    "mailbox_full": "mailbox_full",
    "mailbox_busy": "mailbox_busy",
    **dict.fromkeys(("recipient_refused", "recipient_invalid", "smtputf8_not_supported"), "recipient"),
    **dict.fromkeys(("message_refused", "message_too_large"), "message"),
    "gave_up": "gave_up",
    # as reports say it
    **dict.fromkeys(("no_such_mailbox", "no_such_domain"), "recipient"),
    **dict.fromkeys(("blocked_as_spam", "policy"), "message"),
    "timed_out": "connection",
}


def keep_handle(response: Response, registration_id: UUID) -> None:
    """Set the cookie by which a browser without scripts finds its sign-up."""
    handle = mint_handle(get_context().secrets, registration_id)
    set_cookie(response, _COOKIE, f"{registration_id}.{handle}")


def explain_reasons(texts: Texts) -> dict[str, str]:
    """Return why a mail may wait or fail in the reader's words, by the API's; `""` is for every other reason."""
    return {"": texts["us"]} | {reason: texts[name] for reason, name in _REASONS.items()}


@blueprint.get(_STATUS)
async def show_status() -> Response:
    """Show how the sign-up of this browser stands."""
    return await _show()


@blueprint.post("/signup/code")
async def submit_code() -> Response:
    """Try a code."""

    async def enter(context: Context, known: UUID, form: Mapping[str, str]) -> None:
        await confirm_by_code(context, get_caller(), known, form.get("code", "")[:64])

    return await _do(enter)


@blueprint.post("/signup/resend")
async def submit_resend() -> Response:
    """Send the mail again."""

    async def ask(context: Context, known: UUID, _: Mapping[str, str]) -> None:
        if (await read_registration(context, known)).state in FINAL:  # its address may have been erased
            raise RegistrationOverError
        await ask_again(context, get_caller(), address_of(await _find_recipient(context, known)), known)

    return await _do(ask)


@blueprint.post("/signup/address")
async def submit_address() -> Response:
    """Send the mail to another address."""

    async def change(context: Context, known: UUID, form: Mapping[str, str]) -> None:
        body = read_values(AddressBody, {"email": form.get("email", "")})
        await correct_address(context, get_caller(), known, address_of(body.email))

    return await _do(change)


async def _do(deed: Callable[[Context, UUID, Mapping[str, str]], Awaitable[None]]) -> Response:
    """Run the action of a form, and redirect to the status, or show the status with the error."""
    form = await read_form()
    try:
        await deed(get_context(), _read_handle(), form)
    except RegistrationNotFoundError:
        return lead_to("/signup")
    except RegsvcError as error:
        status = find_status(error)
        page = await _show(int(status or 500), problem=explain_error(get_words(), error, form))
        return await tell_when(page, error)
    return lead_to(_STATUS)


async def _show(status: int = 200, *, problem: str = "") -> Response:
    context = get_context()
    try:
        known = _read_handle()
        registration, email = await read_registration(context, known), await _find_recipient(context, known)
    except RegistrationNotFoundError:
        return await show_cookies_needed("/signup") if comes_from("/signup") else lead_to("/signup")
    if registration.state in UNSENT and request.method == "GET":
        context.hub.glance(known)
    texts = get_words()
    mailbox = await find_mailbox(email)
    page = await show_page(
        "status.html",
        status,
        submits=True,
        registration=registration,
        email=email,
        problem=problem,
        paths=PATHS | {"again": _STATUS},
        mailbox=mailbox,
        sender=mailbox.sender,
        nothing=explain_absence(texts["waiting"], registration, mailbox),
        reason=_say_reason(texts["reasons"], registration),
        next_try=say_moment(registration.next_try_at) if registration.next_try_at else "",
    )
    seconds = _LOOK_AGAIN.get(registration.state)
    if seconds is not None:
        page.headers["Refresh"] = f"{seconds}; url={_STATUS}"
    return page


def _read_handle() -> UUID:
    """Return the registration that this browser made.

    Raises:
        RegistrationNotFoundError: there is none.
    """
    for cookie in get_cookies(_COOKIE):
        registration_id, _, handle = cookie.partition(".")
        with suppress(RegistrationNotFoundError):
            return check_handle(get_context(), registration_id, handle)
    raise RegistrationNotFoundError


async def _find_recipient(context: Context, known: UUID) -> str:
    async with context.pool.connection() as conn:
        email = await get_recipient(conn, known)
    if email is None:
        raise RegistrationNotFoundError
    return email


def _say_reason(texts: Texts, registration: Registration) -> str:
    if registration.reason is None:
        return ""
    return texts[_REASONS.get(registration.reason, "us")]
