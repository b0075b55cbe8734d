"""One's account: profile, address, password, sessions, data. Plain forms do all of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from quart import Response, request

from regsvc.accounts.audit.activity import list_activity
from regsvc.accounts.sessions.proof import ProofNeededError, find_proof
from regsvc.accounts.sessions.refresh_token import Grant
from regsvc.accounts.sessions.session import (
    SessionNotFoundError,
    list_sessions,
)
from regsvc.accounts.users.terms import get_acceptance
from regsvc.accounts.users.user import get_user
from regsvc.errors import RegsvcError
from regsvc.flows.account.account_data import PasswordBody, begin_export, erase_own
from regsvc.flows.account.email_change import EmailChangeBody, ask_change
from regsvc.flows.account.password import ChangeBody, change_own_anew
from regsvc.flows.account.profile import ProfileBody, change_profile
from regsvc.flows.account.terms import TermsBody, accept_own
from regsvc.flows.login import sessions
from regsvc.http.context import Context, get_context
from regsvc.http.pages.activity.lines import sum_up
from regsvc.http.pages.browser_session import find_visitor, forget_session, keep_session, lead_to_login
from regsvc.http.pages.error_texts import explain_error
from regsvc.http.pages.factors.proof import TARGETS, lead_to_proof
from regsvc.http.pages.forms import comes_from, lead_to, read_form
from regsvc.http.pages.page import blueprint, show_cookies_needed, show_page, tell_when
from regsvc.http.pages.texts import Words, get_languages
from regsvc.http.pages.times import say_moment
from regsvc.http.pages.waiting.address_change import find_waiting_change
from regsvc.http.request.body import read_id, read_values
from regsvc.http.request.caller import get_caller
from regsvc.http.response.json_response import answer_file
from regsvc.http.response.problems import find_status
from regsvc.http.response.site_data import clear_site_data
from regsvc.mail.message.languages import choose_language, list_locales
from regsvc.schemas.fields import address_of
from regsvc.security.no_password import has_password
from regsvc.security.signing.access_token import AccessToken, AccessTokenInvalidError

Deed = Callable[[Context, AccessToken, Mapping[str, str]], Awaitable[Grant | None]]

_EVENTS = 40  # of the audit log that the page sums up
# Where a form leads when it is done: to the account, saying so, or away from it.
_DONE = {
    "terms": "terms_accepted",
    "profile": "saved",
    "address": "address_asked",
    "password": "password_changed",
    "sessions": "session_ended",
}


@blueprint.get("/account")
async def open_account() -> Response:
    """Show the account of the user who is logged in, or redirect to the login page."""
    visitor = await find_visitor()
    if visitor is not None:
        return await _show(visitor, done=request.args.get("done", ""), opened=request.args.get("open", ""))
    # A browser that comes from there without its cookie would only be led in circles.
    return await show_cookies_needed("/login") if comes_from("/login") else lead_to_login()


@blueprint.post("/account/terms")
async def submit_terms() -> Response:
    """Accept the present terms of use."""

    async def accept(context: Context, visitor: AccessToken, form: Mapping[str, str]) -> None:
        body = read_values(TermsBody, {"terms": form.get("terms", "")[:40]})
        await accept_own(context, get_caller(), visitor, body)

    return await _do("terms", accept)


@blueprint.post("/account/profile")
async def submit_profile() -> Response:
    """Change name and language."""

    async def change(context: Context, visitor: AccessToken, form: Mapping[str, str]) -> None:
        typed = {"name": form.get("name", ""), "locale": form.get("locale", "")}
        await change_profile(context, get_caller(), visitor, read_values(ProfileBody, typed))

    return await _do("profile", change)


@blueprint.post("/account/address")
async def submit_new_address() -> Response:
    """Ask to move the account to another address."""

    async def move(context: Context, visitor: AccessToken, form: Mapping[str, str]) -> None:
        typed = {"email": form.get("email", "").strip(), "password": form.get("password")}
        body = read_values(EmailChangeBody, typed)
        await ask_change(context, get_caller(), visitor, address_of(body.email), body.password)

    return await _do("address", move)


@blueprint.post("/account/password")
async def submit_new_password() -> Response:
    """Set another password: every session ends, and this browser goes on in a new one."""

    async def change(context: Context, visitor: AccessToken, form: Mapping[str, str]) -> Grant:
        typed = {
            "current_password": form.get("current_password"),
            "new_password": form.get("new_password", ""),
        }
        return await change_own_anew(context, get_caller(), visitor, read_values(ChangeBody, typed))

    return await _do("password", change)


@blueprint.post("/account/sessions/end")
async def submit_end() -> Response:
    """End one session; one that has ended meanwhile is what was asked for."""

    async def end(context: Context, visitor: AccessToken, form: Mapping[str, str]) -> None:
        try:
            wanted = read_id(form.get("session", ""), SessionNotFoundError)
            await sessions.end_session(context, get_caller(), visitor, wanted)
        except SessionNotFoundError:
            pass

    return await _do("sessions", end)


@blueprint.post("/account/sessions/end-all")
async def submit_end_all() -> Response:
    """End every session, this browser's too."""

    async def end(context: Context, visitor: AccessToken, _: Mapping[str, str]) -> None:
        await sessions.log_out_everywhere(context, get_caller(), visitor)

    return await _do("sessions", end, away="/login?done=logged_out")


@blueprint.get("/account/export")
async def download_export() -> Response:
    """Download all that is known of oneself."""
    visitor = await find_visitor()
    if visitor is None:
        return lead_to_login()
    if request.method == "HEAD":
        return answer_file("", "account.json")
    try:
        return answer_file(await begin_export(get_context(), get_caller(), visitor), "account.json")
    except ProofNeededError:
        return lead_to_proof("export")


@blueprint.post("/account/delete")
async def submit_delete() -> Response:
    """Delete the account."""

    async def erase(context: Context, visitor: AccessToken, form: Mapping[str, str]) -> None:
        body = read_values(PasswordBody, {"password": form.get("password")})
        await erase_own(context, get_caller(), visitor, body)

    return await _do("delete", erase, away="/login?done=deleted")


async def _do(part: str, deed: Deed, *, away: str = "") -> Response:
    """Run the action of a form, and show an error in the part of the page that the form is in.

    A form without a password needs the session's proof. Where that is over, the browser is led to give it again.
    """
    form = await read_form()
    visitor = await find_visitor()
    if visitor is None:
        return lead_to_login()
    try:
        granted = await deed(get_context(), visitor, form)
    except AccessTokenInvalidError:
        return lead_to_login()
    except ProofNeededError:
        return lead_to_proof(part)
    except RegsvcError as error:
        status = find_status(error)
        if status is None:
            raise
        return await tell_when(await _show(visitor, int(status), part=part, error=error), error)
    response = lead_to(away or f"/account?done={part}#{part}")
    if away:
        forget_session(response)
        clear_site_data(response)
    elif granted is not None:
        keep_session(response, granted)
    return response


async def _show(
    visitor: AccessToken,
    status: int = 200,
    *,
    done: str = "",
    opened: str = "",
    part: str = "",
    error: RegsvcError | None = None,
) -> Response:
    terms = get_context().settings.terms
    async with get_context().pool.connection() as conn:
        user = await get_user(conn, visitor.user_id)
        found = await find_proof(conn, visitor.session_id)
        alive = await list_sessions(conn, visitor.user_id)
        events = await list_activity(conn, visitor.user_id, after=None, limit=_EVENTS)
        accepted = await get_acceptance(conn, visitor.user_id) if terms is not None else None
    if user is None or found is None:
        return lead_to_login()
    words = choose_language(get_languages(), user.locale)
    return await show_page(
        "account.html",
        status,
        words=words,
        submits=True,
        user=user,
        has_password=has_password(found.password_hash),
        proved=found.proved_until is not None,
        opened=opened if opened in TARGETS else "",
        waiting=await find_waiting_change(visitor.user_id, words),
        terms=terms
        if accepted is not None and terms is not None and accepted.version != terms.version
        else None,
        sessions=alive,
        activity=sum_up(words, events.rows),
        here=visitor.session_id,
        locales=_name_languages(),
        done=_say_done(words, done),
        problems={} if error is None else {part: explain_error(words, error)},
        say_moment=say_moment,
    )


def _say_done(words: Words, done: str) -> dict[str, str]:
    """Return what was done, by the part of the page that says so."""
    if done == "export":
        return {"delete": words["proof"]["export_ready"]}
    return {done: words["account"][_DONE[done]]} if done in _DONE else {}


def _name_languages() -> dict[str, str]:
    """Return the languages that people can choose, by tag, each in its own words where there are pages in it."""
    known = get_languages()
    locales = list_locales(get_context().settings.templates)
    return {locale: known[locale]["common"]["language"] if locale in known else locale for locale in locales}
