"""The second step of a login with a browser."""

from __future__ import annotations

from quart import Response

from regsvc.accounts.factors import guesses
from regsvc.accounts.factors.methods import FactorInvalidError, list_second_factors
from regsvc.accounts.factors.passkey_challenges import PasskeyExpiredError
from regsvc.accounts.factors.pending_logins import MfaTokenInvalidError, find_pending_login
from regsvc.accounts.limits.rate_limit import RateLimitedError
from regsvc.errors import RegsvcError, ValidationFailedError
from regsvc.flows.login.second_factor import SecondFactorBody, pass_second_factor
from regsvc.flows.login.sessions import log_out
from regsvc.http.context import get_context
from regsvc.http.pages.browser_session import find_visitor, keep_session
from regsvc.http.pages.error_texts import explain_error
from regsvc.http.pages.factors.pending import forget_pending, get_pending
from regsvc.http.pages.forms import lead_to, read_form
from regsvc.http.pages.login import show_login
from regsvc.http.pages.page import blueprint, show_page, tell_when
from regsvc.http.pages.passkeys.answers import read_answer
from regsvc.http.pages.texts import Words, get_words
from regsvc.http.request.body import read_values
from regsvc.http.request.caller import get_caller
from regsvc.schemas.passkeys import AssertedPasskey
from regsvc.security.passkeys.client_data import PasskeyInvalidError


@blueprint.get("/login/second-factor")
async def open_second_factor() -> Response:
    """Show the form of the second step, or redirect to the first."""
    return await _show()


@blueprint.post("/login/second-factor")
async def submit_second_factor() -> Response:
    """Complete the login, and end the session that the browser was in (ASVS 5.0, 7.2.4)."""
    form = await read_form()
    token = get_pending()
    given = {name: form[name].strip() for name in ("code", "recovery_code") if form.get(name, "").strip()}
    words = get_words()
    try:
        if form.get("assertion"):
            asserted = read_answer(form, "assertion", AssertedPasskey)
            body = SecondFactorBody(mfa_token=token or "", assertion=asserted)
        else:
            body = read_values(SecondFactorBody, {"mfa_token": token or "", **given})
        before = await find_visitor()
        granted = await pass_second_factor(get_context(), get_caller(), body)
    except MfaTokenInvalidError as error:
        response = await show_login(401, problem=explain_error(words, error))
        forget_pending(response)
        return response
    except (PasskeyInvalidError, PasskeyExpiredError) as error:
        return await _show(401, problem=explain_error(words, error))
    except (FactorInvalidError, ValidationFailedError):
        if form.get("assertion"):
            return await _show(401, problem=words["errors"]["passkey_invalid"])
        return await _show(
            401, problem=words["errors"]["second_factor_invalid"], recovery="recovery_code" in given
        )
    except RateLimitedError as error:
        return await tell_when(await _show(429, problem=explain_refusal(words, error)), error)
    if before is not None:
        await log_out(get_context(), get_caller(), before)
    response = lead_to("/account")
    keep_session(response, granted)
    forget_pending(response)
    return response


def explain_refusal(words: Words, error: RegsvcError) -> str:
    """Return why a factor is not taken: the account's guesses are used up, or the client is too fast."""
    if isinstance(error, RateLimitedError) and error.limit == guesses.LIMIT:
        return words["second_factor"]["stopped"]
    return explain_error(words, error)


async def _show(status: int = 200, *, problem: str = "", recovery: bool = False) -> Response:
    token = get_pending()
    if token is None:
        return lead_to("/login")
    try:
        async with get_context().pool.connection() as conn:
            pending = await find_pending_login(conn, token)
            methods = await list_second_factors(conn, pending.user_id)
    except MfaTokenInvalidError as error:
        response = await show_login(401, problem=explain_error(get_words(), error))
        forget_pending(response)
        return response
    return await show_page(
        "second_factor.html", status, submits=True, problem=problem, methods=methods, recovery=recovery
    )
