"""Log in with an identity provider: to the provider, back with its answer, and what comes of it.

The answer comes as a GET, which changes nothing: it shows a page that posts the answer to us from our own origin, by
script or by a button. Apple has the browser post it; that one path is open to other origins, and shows the same page.
The page sends no referrer, since its address has the code.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl

from quart import Response, request
from werkzeug.exceptions import MethodNotAllowed

from regsvc.accounts.factors.pending_logins import SecondFactorRequiredError
from regsvc.accounts.sessions.refresh_token import Grant
from regsvc.errors import RegsvcError
from regsvc.flows.identities.arrival import (
    Answer,
    FlowStateInvalidError,
    ProviderDeclinedError,
    find_flow,
    prove_identity,
)
from regsvc.flows.identities.departure import depart, find_provider
from regsvc.flows.identities.exchange import add_query, hand_out_code
from regsvc.flows.identities.settling import SignUpBegun, settle
from regsvc.flows.login.sessions import log_out
from regsvc.flows.signup.policy import TermsNeededError
from regsvc.http.context import get_context
from regsvc.http.pages.browser_session import find_visitor, keep_session
from regsvc.http.pages.error_texts import explain_error
from regsvc.http.pages.factors.pending import lead_to_second_step
from regsvc.http.pages.forms import lead_to, read_foreign_form, read_form
from regsvc.http.pages.identities.flow_cookie import (
    find_identity,
    forget_flow,
    forget_identity,
    get_flows,
    keep_identity,
    lead_away,
)
from regsvc.http.pages.identities.names import read_apple_name
from regsvc.http.pages.identities.own import finish_own
from regsvc.http.pages.identities.ways import keep_way
from regsvc.http.pages.page import blueprint, show_page, tell_when
from regsvc.http.pages.signup_status import keep_handle
from regsvc.http.pages.texts import get_words
from regsvc.http.request.caller import get_caller
from regsvc.http.response.problems import find_status
from regsvc.security.identities.flow_state import FlowState
from regsvc.security.identities.proven_identity import ProvenIdentity
from regsvc.security.signing.access_token import AccessToken

_FIELDS = ("code", "state", "iss", "error", "user")


@blueprint.get("/login/with/<name>")
async def begin_login(name: str) -> Response:
    """Lead a browser to a provider; for another client, with `return_to` and `code_challenge`."""
    return_to, challenge = (request.args.get(field, "") for field in ("return_to", "code_challenge"))
    if request.args.get("code_challenge_method", "S256") != "S256":
        challenge = ""
    try:
        departure = await depart(get_context(), name, return_to=return_to, code_challenge=challenge)
    except RegsvcError as error:
        return await _show_problem(error, name)
    return lead_away(departure)


@blueprint.get("/login/with/<name>/done")
async def show_answer(name: str) -> Response:
    """Show the page that posts a provider's answer; this changes nothing."""
    query = request.query_string.decode("ascii", "replace")
    if not query:  # a browser that goes back to the page: its script has taken the answer out of the address
        return lead_to("/login")
    return await _show_return(name, _read_once(parse_qsl(query, keep_blank_values=True)))


@blueprint.post("/login/with/<name>/done")
async def show_posted_answer(name: str) -> Response:
    """Show the same for a provider that has the browser post its answer from its own origin; this changes nothing.

    Raises:
        MethodNotAllowed: this provider does not.
    """
    if not find_provider(get_context(), name).posts_answer:
        raise MethodNotAllowed(["GET"])
    return await _show_return(name, _read_once(await read_foreign_form()))


@blueprint.post("/login/with/<name>/finish")
async def finish(name: str) -> Response:
    """Take a provider's answer from the page above."""
    form = await read_form(without_referrer=True)
    answer = Answer(
        state=form.get("state", ""),
        code=form.get("code", ""),
        issuer=form.get("iss"),
        error=form.get("error", ""),
        name=read_apple_name(form.get("user", "")),
    )
    context = get_context()
    find_provider(context, name)
    try:
        flow = find_flow(context, get_flows(), name, answer.state)
        response = await _finish(flow, answer)
    except RegsvcError as error:
        response = await _show_problem(error, name)
    forget_flow(response)
    return response


async def _finish(flow: FlowState, answer: Answer) -> Response:
    context = get_context()
    try:
        proven = await prove_identity(context, get_caller(), flow, answer)
    except RegsvcError as error:
        if not flow.return_to or isinstance(error, FlowStateInvalidError):
            raise
        word = "access_denied" if isinstance(error, ProviderDeclinedError) else error.code
        return await _show_onward(add_query(flow.return_to, {"error": word}))
    if flow.return_to:
        return await _show_onward(await hand_out_code(context, flow, proven))
    if flow.purpose != "login":
        return await finish_own(flow, proven)
    return await _log_in(proven)


@blueprint.post("/login/with/<name>/terms")
async def accept_terms(name: str) -> Response:
    """Open the account of a person who has now accepted the terms."""
    form = await read_form()
    find_provider(get_context(), name)
    proven = find_identity(name)
    try:
        if proven is None:
            raise FlowStateInvalidError
        response = await _log_in(proven, form.get("terms", ""))
    except RegsvcError as error:
        response = await _show_problem(error, name)
    return response


async def _log_in(proven: ProvenIdentity, terms: str | None = None) -> Response:
    """Log this browser in, and end the session that it was in (ASVS 5.0, 7.2.4)."""
    context = get_context()
    before = await find_visitor()
    try:
        settled = await settle(context, get_caller(), proven, terms)
    except SecondFactorRequiredError as error:
        response = lead_to_second_step(error.mfa_token)
        keep_way(response, proven.provider)
        return response
    except TermsNeededError:
        response = await _ask_terms(proven, missing=terms is not None)
        keep_identity(response, proven)
        return response
    response = await _answer(settled, proven.provider, before)
    forget_identity(response)
    return response


async def _answer(settled: Grant | SignUpBegun, provider: str, before: AccessToken | None) -> Response:
    context = get_context()
    if isinstance(settled, SignUpBegun):
        response = lead_to("/signup/status")
        keep_handle(response, settled.registration_id)
        return response
    if before is not None:
        await log_out(context, get_caller(), before)
    response = lead_to("/account")
    keep_session(response, settled)
    keep_way(response, provider)
    return response


def _read_once(pairs: list[tuple[str, str]]) -> dict[str, str]:
    """Return the fields of an answer; none if one comes twice (RFC 6749, 3.1)."""
    found = dict(pairs)
    return {} if len(found) != len(pairs) else {name: found[name] for name in _FIELDS if name in found}


async def _show_return(name: str, fields: Mapping[str, str]) -> Response:
    provider = find_provider(get_context(), name)
    return await show_page(
        "identity_return.html",
        submits=True,
        silent=True,
        action=f"/login/with/{name}/finish",
        provider=provider.label,
        fields=fields,
    )


async def _ask_terms(proven: ProvenIdentity, *, missing: bool) -> Response:
    words = get_words()
    return await show_page(
        "identity_terms.html",
        422 if missing else 200,
        submits=True,
        action=f"/login/with/{proven.provider}/terms",
        terms=get_context().settings.terms,
        fault=words["errors"]["terms_missing"] if missing else "",
    )


async def _show_onward(uri: str) -> Response:
    """Show the way to another client: a policy keeps forms from leading elsewhere, and apps want a tap."""
    page = await show_page("identity_onward.html", silent=True, uri=uri)
    page.headers["Refresh"] = f"0;url={uri}"
    return page


async def _show_problem(error: RegsvcError, name: str) -> Response:
    """Show what went wrong where the person can log in otherwise."""
    status = find_status(error)
    if status is None or get_context().settings.find_provider(name) is None:
        raise error
    text = explain_error(get_words(), error)
    page = await show_page("identity_problem.html", int(status), problem=text)
    return await tell_when(page, error)
