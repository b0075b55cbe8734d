"""The sign-up page, and the check of its fields while the user types.

What is typed is checked by the very code that the API checks with, here as there: the page's script asks
`/signup/check`, so no rule is written twice and no list of passwords is sent to browsers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import ConfigDict
from quart import Response

from regsvc.accounts.address import AddressError, parse_address
from regsvc.accounts.limits.rate_limit import RateLimitedError
from regsvc.errors import FieldError, OverloadedError, ValidationFailedError, WeakPasswordError
from regsvc.flows.account.new_password import check_new_password
from regsvc.flows.rate_limits import SIGNUP_CHECK, throttle
from regsvc.flows.signup.policy import (
    DomainNotAllowedError,
    TermsNeededError,
    check_domain,
    check_terms,
)
from regsvc.flows.signup.signup import RegisterBody, sign_up
from regsvc.http.context import get_context
from regsvc.http.pages.error_texts import explain_error, explain_fields, get_lengths
from regsvc.http.pages.forms import check_same_origin, lead_to, read_form
from regsvc.http.pages.page import blueprint, show_page, tell_when
from regsvc.http.pages.signup_status import PATHS, explain_reasons, keep_handle
from regsvc.http.pages.texts import get_words
from regsvc.http.request.body import read_body, read_values
from regsvc.http.request.caller import get_caller
from regsvc.http.response.json_response import answer
from regsvc.http.response.problems import find_status
from regsvc.schemas.fields import Body
from regsvc.security.challenge import ChallengeNeededError
from regsvc.security.strength import rate_password

_FIELDS = ("name", "email", "password", "terms")
_LONGEST = 1024  # characters of a field that are looked at; all of them take fewer


class _Typed(Body):
    """What stands in the form so far."""

    model_config = ConfigDict(extra="ignore")

    name: str = ""
    email: str = ""
    password: str = ""
    terms: str = ""


@blueprint.get("/signup")
async def open_signup() -> Response:
    """Show the form, or why there is none."""
    if get_context().settings.signup != "open":
        return await _show_closed()
    return await _show_form()


@blueprint.post("/signup")
async def submit_signup() -> Response:
    """Take the form as a browser without scripts sends it, and lead to what becomes of the sign-up."""
    form = await read_form()
    if get_context().settings.signup != "open":
        return await _show_closed(403)
    typed = {name: form.get(name, "")[:_LONGEST] for name in _FIELDS}
    faults = await find_faults(typed)
    if faults:
        return await _show_form(422, typed=typed, faults=explain_fields(get_words(), faults, typed))
    context = get_context()
    try:
        new = await sign_up(context, get_caller(), read_values(RegisterBody, typed))
    except (ChallengeNeededError, RateLimitedError, OverloadedError) as error:
        status = int(find_status(error) or 500)
        problem = explain_error(get_words(), error)
        return await tell_when(await _show_form(status, typed=typed, problem=problem), error)
    response = lead_to("/signup/status")
    keep_handle(response, new.id)
    return response


@blueprint.post("/signup/check")
async def check() -> Response:
    """Return the field errors of the form so far in the reader's words, and the strength of the password."""
    check_same_origin()
    body = await read_body(_Typed)
    await throttle(get_context(), get_caller(), SIGNUP_CHECK)
    typed = {name: text[:_LONGEST] for name, text in body.model_dump().items()}
    strength = await rate_password(body.password, [body.email, body.name]) if body.password else None
    return answer(
        {"faults": explain_fields(get_words(), await find_faults(typed), typed), "strength": strength}
    )


async def find_faults(typed: Mapping[str, str]) -> Sequence[FieldError]:
    """Return what the API would have against a sign-up, the password last."""
    found: list[FieldError] = []
    try:
        read_values(RegisterBody, dict(typed))
    except ValidationFailedError as error:
        found += error.fields
    settings = get_context().settings
    try:
        address = parse_address(typed["email"], settings.local_domains)
        email = address.email
        check_domain(settings, address)
    except AddressError:
        email = typed["email"]
    except DomainNotAllowedError as error:
        found += error.fields
    try:
        check_terms(settings, typed["terms"])
    except TermsNeededError as error:
        found += error.fields
    try:
        await check_new_password(get_context(), typed["password"], email=email, name=typed["name"])
    except WeakPasswordError as error:
        found += error.fields
    return found


async def _show_closed(status: int = 200) -> Response:
    return await show_page("signup_closed.html", status, told=get_context().settings.signup)


async def _show_form(
    status: int = 200,
    *,
    typed: Mapping[str, str] | None = None,
    faults: Mapping[str, str] | None = None,
    problem: str = "",
) -> Response:
    return await show_page(
        "signup.html",
        status,
        submits=True,
        typed=typed or dict.fromkeys(_FIELDS, ""),
        faults=faults or {},
        problem=problem,
        terms=get_context().settings.terms,
        lengths=get_lengths(),
        reasons=explain_reasons(get_words()["reasons"]),
        paths=PATHS,
        sender=get_context().settings.mail_from.addr_spec,
    )
