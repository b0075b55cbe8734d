"""Logging in with a browser and a code that is mailed.

A cookie holds the handle, so that the code works in this browser alone; every form leads back to a page that can be
read again. It moves by the component of all pages that wait; without scripts it looks again by itself while the mail is
on its way.
"""

from __future__ import annotations

from contextlib import suppress
from uuid import UUID

from quart import Response

from regsvc.accounts.factors.pending_logins import SecondFactorRequiredError
from regsvc.accounts.registrations.link_preview import get_recipient
from regsvc.accounts.registrations.registration import (
    FINAL,
    LOGIN_CODE_LIFE,
    RegistrationNotFoundError,
    RegistrationOverError,
)
from regsvc.errors import RegsvcError, ValidationFailedError
from regsvc.flows.login.login_code import ask_for_code, log_in_by_code
from regsvc.flows.login.sessions import log_out
from regsvc.flows.signup.resend import AddressBody
from regsvc.flows.signup.signup import check_handle, read_registration
from regsvc.http.context import get_context
from regsvc.http.pages.browser_session import find_visitor, keep_session
from regsvc.http.pages.error_texts import explain_error
from regsvc.http.pages.factors.pending import lead_to_second_step
from regsvc.http.pages.forms import get_cookies, lead_to, read_form, set_cookie
from regsvc.http.pages.page import blueprint, show_page, tell_when
from regsvc.http.pages.signup_status import explain_reasons
from regsvc.http.pages.texts import Words, get_words
from regsvc.http.pages.times import say_moment
from regsvc.http.pages.waiting.absence import explain_absence
from regsvc.http.pages.waiting.mailbox import find_mailbox
from regsvc.http.request.body import read_values
from regsvc.http.request.caller import get_caller
from regsvc.http.response.problems import find_status
from regsvc.schemas.fields import address_of
from regsvc.security.tokens import mint_handle

_COOKIE = "regsvc-code"
_ASK, _STATUS = "/login/code", "/login/code/status"
_PATHS = {
    "code": "/login/code/verify",
    "resend": "/login/code/resend",
    "address": "",
    "again": _STATUS,
    "challenge": "login-code",
}
_LOOK_AGAIN = {"queued": 2, "sending": 2, "delayed": 30}  # seconds, without scripts
_LIFE = 3600  # seconds of the cookie, as long as an attempt


@blueprint.get(_ASK)
async def open_login_code() -> Response:
    """Show the form to ask for a code with."""
    return await _show_form()


@blueprint.post(_ASK)
async def submit_login_code() -> Response:
    """Ask for a code; what is said is the same whether or not the address has an account."""
    email = (await read_form()).get("email", "").strip()
    words = get_words()
    try:
        body = read_values(AddressBody, {"email": email})
        asked = await ask_for_code(get_context(), get_caller(), address_of(body.email))
    except ValidationFailedError as error:
        return await _show_form(422, email=email, fault=explain_error(words, error, {"email": email}))
    except RegsvcError as error:
        status = int(find_status(error) or 500)
        return await tell_when(
            await _show_form(status, email=email, problem=explain_error(words, error)), error
        )
    response = lead_to(_STATUS)
    handle = mint_handle(get_context().secrets, asked.id)
    set_cookie(response, _COOKIE, f"{asked.id}.{handle}", seconds=_LIFE)
    return response


@blueprint.get(_STATUS)
async def show_login_code() -> Response:
    """Show where the mail with the code is, and the form for the code."""
    return await _show()


@blueprint.post("/login/code/resend")
async def submit_another_code() -> Response:
    """Ask for another code of this browser's attempt."""
    await read_form()
    try:
        known = _read_handle()
        email = await _find_recipient(known)
        await ask_for_code(get_context(), get_caller(), address_of(email), known)
    except (RegistrationNotFoundError, RegistrationOverError):
        return lead_to(_ASK)
    except RegsvcError as error:
        page = await _show(int(find_status(error) or 500), problem=explain_error(get_words(), error))
        return await tell_when(page, error)
    return lead_to(_STATUS)


@blueprint.post("/login/code/verify")
async def submit_verify() -> Response:
    """Start a session of this browser with the code, and end the one that it was in (ASVS 5.0, 7.2.4)."""
    form = await read_form()
    try:
        known = _read_handle()
        before = await find_visitor()
        granted = await log_in_by_code(get_context(), get_caller(), known, form.get("code", "")[:64])
    except RegistrationNotFoundError:
        return lead_to(_ASK)
    except SecondFactorRequiredError as error:
        return lead_to_second_step(error.mfa_token)
    except RegsvcError as error:
        page = await _show(int(find_status(error) or 500), problem=explain_error(get_words(), error, form))
        return await tell_when(page, error)
    if before is not None:
        await log_out(get_context(), get_caller(), before)
    response = lead_to("/account")
    keep_session(response, granted)
    set_cookie(response, _COOKIE, "")
    return response


async def _show_form(status: int = 200, *, email: str = "", fault: str = "", problem: str = "") -> Response:
    return await show_page("login_code.html", status, submits=True, email=email, fault=fault, problem=problem)


async def _show(status: int = 200, *, problem: str = "") -> Response:
    try:
        known = _read_handle()
        attempt, email = await read_registration(get_context(), known), await _find_recipient(known)
    except RegistrationNotFoundError:
        return lead_to(_ASK)
    words = _say_it_of_logins(get_words())
    over = attempt.state in FINAL
    mailbox = None if over else await find_mailbox(email)
    return await show_page(
        "login_code_status.html",
        status,
        words=words,
        submits=True,
        registration=attempt,
        email=email,
        problem=problem,
        over=over,
        paths=_PATHS,
        mailbox=mailbox,
        sender=mailbox.sender if mailbox else "",
        nothing=explain_absence(words["waiting"], attempt, mailbox, life=LOGIN_CODE_LIFE) if mailbox else "",
        reason=_say_reason(words, attempt.reason),
        reasons=explain_reasons(words["reasons"]),
        handle=mint_handle(get_context().secrets, known),
        again=_LOOK_AGAIN.get(attempt.state),
        next_try=say_moment(attempt.next_try_at) if attempt.next_try_at else "",
    )


def _say_it_of_logins(words: Words) -> Words:
    """Return the words of the waiting component with those about logins in the place of those about sign-ups."""
    inbox = {**words["inbox"], **words["login_code"]}
    return Words(words.language, {**words.tables, "inbox": inbox})


def _say_reason(words: Words, reason: str | None) -> str:
    if reason is None:
        return ""
    reasons = explain_reasons(words["reasons"])
    return reasons.get(reason, reasons[""])


def _read_handle() -> UUID:
    for cookie in get_cookies(_COOKIE):
        login_id, _, handle = cookie.partition(".")
        with suppress(RegistrationNotFoundError):
            return check_handle(get_context(), login_id, handle)
    raise RegistrationNotFoundError


async def _find_recipient(known: UUID) -> str:
    async with get_context().pool.connection() as conn:
        email = await get_recipient(conn, known)
    if not email:
        raise RegistrationNotFoundError
    return email
