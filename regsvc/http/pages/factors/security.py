"""The security page of one's account: what a login needs, and the ways to log in. Plain forms do all of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from quart import Response, request

from regsvc.accounts.factors.passkeys import list_passkeys, name_accepted
from regsvc.accounts.factors.recovery_codes import FEW, NUMBER
from regsvc.accounts.factors.totp import TotpCodeInvalidError, find_setup, find_totp
from regsvc.accounts.identities.identity import list_identities
from regsvc.accounts.sessions.proof import ProofNeededError, find_proof
from regsvc.accounts.users.user import get_user
from regsvc.errors import RegsvcError, ValidationFailedError
from regsvc.flows.factors.authenticator import (
    TotpCodeBody,
    begin_totp,
    confirm_totp,
    remove_totp,
    renew_codes,
)
from regsvc.flows.factors.qr_code import draw_qr_code
from regsvc.http.context import Context, get_context
from regsvc.http.pages.browser_session import find_visitor, lead_to_login
from regsvc.http.pages.error_texts import explain_error
from regsvc.http.pages.factors.proof import lead_to_proof
from regsvc.http.pages.forms import lead_to, read_form
from regsvc.http.pages.identities.ways import label_of
from regsvc.http.pages.page import blueprint, show_page, tell_when
from regsvc.http.pages.texts import Words, get_languages
from regsvc.http.pages.times import say_moment
from regsvc.http.request.body import read_values
from regsvc.http.request.caller import get_caller
from regsvc.http.response.problems import find_status
from regsvc.mail.message.languages import choose_language
from regsvc.security.passkeys.relying_party import get_relying_party
from regsvc.security.signing.access_token import AccessToken, AccessTokenInvalidError

Act = Callable[[Context, AccessToken, Mapping[str, str]], Awaitable[list[str] | None]]
PATH = "/account/security"

# By the word in the page's address: the part of the page, and the text and its table.
_DONE = {
    "totp": ("totp", "security", "totp_removed"),
    "identities": ("identities", "security", "identities_changed"),
    "passkey_added": ("passkeys", "passkeys", "added"),
    "passkey_renamed": ("passkeys", "passkeys", "renamed"),
    "passkey_removed": ("passkeys", "passkeys", "removed"),
}


@blueprint.get(PATH)
async def open_security() -> Response:
    """Show what a login of the user needs, or redirect to the login page."""
    visitor = await find_visitor()
    return (
        lead_to_login()
        if visitor is None
        else await show_security(visitor, done=request.args.get("done", ""))
    )


@blueprint.get(f"{PATH}/totp.svg")
async def draw_setup() -> Response:
    """Draw the QR code of the setup that this session has begun; 404 without one, or without a proof."""
    visitor = await find_visitor()
    if visitor is None:
        return lead_to_login()
    context = get_context()
    async with context.pool.connection() as conn:
        found = await find_proof(conn, visitor.session_id)
        setup = await find_setup(conn, context.secrets, visitor.user_id, visitor.session_id)
        user = await get_user(conn, visitor.user_id)
    headers = {"Cache-Control": "no-store"}
    if setup is None or user is None or found is None or found.proved_until is None:
        return Response(b"", status=404, headers=headers)
    uri = setup.uri(issuer=context.settings.brand_name, account=user.email)
    return Response(draw_qr_code(uri), content_type="image/svg+xml", headers=headers)


@blueprint.post(f"{PATH}/totp")
async def submit_begin() -> Response:
    """Begin to set up an authenticator app."""

    async def begin(context: Context, visitor: AccessToken, _: Mapping[str, str]) -> None:
        await begin_totp(context, get_caller(), visitor)

    return await act_on("totp", begin)


@blueprint.post(f"{PATH}/totp/confirm")
async def submit_confirm() -> Response:
    """Put the app into use by its first code, and show the recovery codes."""

    async def confirm(context: Context, visitor: AccessToken, form: Mapping[str, str]) -> list[str]:
        body = read_values(TotpCodeBody, {"code": form.get("code", "").strip()})
        return await confirm_totp(context, get_caller(), visitor, body)

    return await act_on("totp", confirm)


@blueprint.post(f"{PATH}/totp/remove")
async def submit_remove() -> Response:
    """Remove the authenticator app and the recovery codes."""

    async def remove(context: Context, visitor: AccessToken, _: Mapping[str, str]) -> None:
        await remove_totp(context, get_caller(), visitor)

    return await act_on("totp", remove, done="totp")


@blueprint.post(f"{PATH}/recovery-codes")
async def submit_renew() -> Response:
    """Make new recovery codes, and show them."""

    async def renew(context: Context, visitor: AccessToken, _: Mapping[str, str]) -> list[str]:
        return await renew_codes(context, get_caller(), visitor)

    return await act_on("codes", renew)


async def act_on(part: str, act: Act, *, done: str = "") -> Response:
    """Run the action of a form of this page, and show an error in the part of the page that the form is in.

    Args:
        part: id of that part of the page.
        act: what the form asks for; it returns recovery codes to show, or None.
        done: what the page says then, a word of its table.
    """
    form = await read_form()
    visitor = await find_visitor()
    if visitor is None:
        return lead_to_login()
    try:
        codes = await act(get_context(), visitor, form)
    except AccessTokenInvalidError:
        return lead_to_login()
    except ProofNeededError:
        return lead_to_proof("security")
    except RegsvcError as error:
        status = find_status(error)
        if status is None:
            raise
        return await tell_when(await show_security(visitor, int(status), part=part, error=error), error)
    if codes is not None:
        # Shown in the answer itself: they are nowhere to be read again.
        return await show_page("recovery_codes.html", codes=codes, submits=True)
    return lead_to(f"{PATH}?done={done}#{part}" if done else f"{PATH}#{part}")


async def show_security(
    visitor: AccessToken,
    status: int = 200,
    *,
    done: str = "",
    part: str = "",
    error: RegsvcError | None = None,
) -> Response:
    """Return the page; its forms are there while the session's proof holds."""
    context = get_context()
    async with context.pool.connection() as conn:
        user = await get_user(conn, visitor.user_id)
        found = await find_proof(conn, visitor.session_id)
        totp = await find_totp(conn, visitor.user_id)
        identities = await list_identities(conn, visitor.user_id)
        passkeys = await list_passkeys(conn, visitor.user_id)
        setup = await find_setup(conn, context.secrets, visitor.user_id, visitor.session_id)
    if user is None or found is None:
        return lead_to_login()
    words = choose_language(get_languages(), user.locale)
    proved = found.proved_until is not None
    problem = ""
    if part == "totp" and isinstance(error, TotpCodeInvalidError | ValidationFailedError):
        problem = words["security"]["totp_wrong"]
    elif error is not None:
        problem = explain_error(words, error)
    return await show_page(
        "security.html",
        status,
        words=words,
        submits=True,
        images=True,
        proved=proved,
        totp=totp,
        identities=identities,
        label_of=label_of,
        # Typed in groups of four.
        key=" ".join(setup.secret[at : at + 4] for at in range(0, len(setup.secret), 4))
        if setup and proved
        else "",
        few=FEW,
        all_codes=NUMBER,
        passkeys=passkeys,
        accepted=name_accepted(get_relying_party(context.settings), visitor.user_id, passkeys),
        done=_say_done(words, done),
        problems={part: problem} if problem else {},
        say_moment=say_moment,
    )


def _say_done(words: Words, done: str) -> dict[str, str]:
    """Return what was done, by the part of the page that says so."""
    if done not in _DONE:
        return {}
    part, table, name = _DONE[done]
    return {part: words[table][name]}
