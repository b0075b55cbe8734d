"""Logging in with a browser, logging out, and what to do when the password is forgotten."""

from __future__ import annotations

from collections.abc import Mapping

from quart import Response, request

from regsvc.accounts.factors.pending_logins import SecondFactorRequiredError
from regsvc.accounts.limits.mail_schedule import TooSoonError
from regsvc.accounts.limits.rate_limit import RateLimitedError
from regsvc.errors import InvalidCredentialsError, OverloadedError, ValidationFailedError
from regsvc.flows.account.password import ForgotBody, ask_for_link
from regsvc.flows.login.login import LoginBody, log_in
from regsvc.flows.login.sessions import log_out
from regsvc.http.context import get_context
from regsvc.http.pages.browser_session import find_visitor, forget_session, keep_session
from regsvc.http.pages.error_texts import explain_error
from regsvc.http.pages.factors.pending import lead_to_second_step
from regsvc.http.pages.forms import lead_to, read_form
from regsvc.http.pages.identities.ways import keep_way
from regsvc.http.pages.page import blueprint, show_page, tell_when
from regsvc.http.pages.texts import fill, get_words
from regsvc.http.request.body import read_values
from regsvc.http.request.caller import get_caller
from regsvc.http.response.problems import find_status
from regsvc.http.response.site_data import clear_site_data
from regsvc.schemas.fields import address_of
from regsvc.security.challenge import ChallengeNeededError

_DONE = ("logged_out", "deleted")


@blueprint.get("/login")
async def open_login() -> Response:
    """Show the form, or redirect to the account of a user who is logged in."""
    if await find_visitor() is not None:
        return lead_to("/account")
    done = request.args.get("done", "")
    return await show_login(done=get_words()["login"][done] if done in _DONE else "")


@blueprint.post("/login")
async def submit_login() -> Response:
    """Start a session of this browser, and end the one that it was in (ASVS 5.0, 7.2.4)."""
    form = await read_form()
    words = get_words()
    try:
        body = read_values(
            LoginBody, {name: form.get(name, "").strip("\r\n") for name in ("email", "password")}
        )
        before = await find_visitor()
        granted = await log_in(get_context(), get_caller(), body.email.strip(), body.password)
    except (InvalidCredentialsError, ValidationFailedError):
        problem = words["errors"]["invalid_credentials"]
        return await show_login(401, email=form.get("email", ""), problem=problem)
    except (ChallengeNeededError, RateLimitedError, OverloadedError) as error:
        status = int(find_status(error) or 500)
        problem = explain_error(words, error)
        return await tell_when(await show_login(status, email=body.email, problem=problem), error)
    except SecondFactorRequiredError as error:
        return lead_to_second_step(error.mfa_token)
    if before is not None:
        await log_out(get_context(), get_caller(), before)
    response = lead_to("/account")
    keep_session(response, granted)
    keep_way(response, "")
    return response


@blueprint.get("/.well-known/change-password")
async def open_change_password() -> Response:
    """Lead password managers to where a password is changed (W3C, A Well-Known URL for Changing Passwords)."""
    return lead_to("/account#password")


@blueprint.post("/logout")
async def submit_logout() -> Response:
    """End the session of this browser."""
    await read_form()
    visitor = await find_visitor()
    if visitor is not None:
        await log_out(get_context(), get_caller(), visitor)
    response = lead_to("/login?done=logged_out")
    forget_session(response)
    return clear_site_data(response)


@blueprint.get("/forgot")
async def open_forgot() -> Response:
    """Show the form to ask for a new password with."""
    return await _show_forgot()


@blueprint.post("/forgot")
async def submit_forgot() -> Response:
    """Ask for a link; what is said is the same whether or not the address has an account."""
    email = (await read_form()).get("email", "").strip()
    words = get_words()
    try:
        body = read_values(ForgotBody, {"email": email})
        await ask_for_link(get_context(), get_caller(), address_of(body.email))
    except ValidationFailedError as error:
        return await _show_forgot(422, email=email, fault=explain_error(words, error, {"email": email}))
    except (ChallengeNeededError, TooSoonError, RateLimitedError) as error:
        status = int(find_status(error) or 500)
        problem = explain_error(words, error)
        return await tell_when(await _show_forgot(status, email=email, problem=problem), error)
    return await _show_forgot(asked=fill(words["forgot"]["asked"], email=email))


async def show_login(
    status: int = 200,
    *,
    email: str = "",
    problem: str = "",
    done: str = "",
    unknown: Mapping[str, str] | None = None,
) -> Response:
    """Return the page; `unknown` is a passkey that the browser may forget."""
    return await show_page(
        "login.html", status, submits=True, email=email, problem=problem, done=done, unknown=unknown
    )


async def _show_forgot(
    status: int = 200, *, email: str = "", fault: str = "", problem: str = "", asked: str = ""
) -> Response:
    return await show_page(
        "forgot.html", status, submits=True, email=email, fault=fault, problem=problem, asked=asked
    )
