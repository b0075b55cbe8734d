"""Log in on the page with a passkey."""

from __future__ import annotations

from quart import Response

from regsvc.accounts.factors.passkeys import PasskeyUnknownError
from regsvc.errors import RegsvcError
from regsvc.flows.factors.passkey_login import log_in_with_passkey
from regsvc.flows.login.sessions import log_out
from regsvc.http.context import get_context
from regsvc.http.pages.browser_session import find_visitor, keep_session
from regsvc.http.pages.error_texts import explain_error
from regsvc.http.pages.forms import lead_to, read_form
from regsvc.http.pages.login import show_login
from regsvc.http.pages.page import blueprint, tell_when
from regsvc.http.pages.passkeys.answers import read_answer
from regsvc.http.pages.texts import get_words
from regsvc.http.request.caller import get_caller
from regsvc.http.response.problems import find_status
from regsvc.schemas.passkeys import AssertedPasskey
from regsvc.security.passkeys.relying_party import get_relying_party


@blueprint.post("/login/passkey")
async def submit_passkey() -> Response:
    """Start a session of this browser by a passkey, and end the one that it was in (ASVS 5.0, 7.2.4)."""
    form = await read_form()
    context = get_context()
    unknown = None
    try:
        body = read_answer(form, "assertion", AssertedPasskey)
        before = await find_visitor()
        try:
            granted = await log_in_with_passkey(context, get_caller(), body)
        except PasskeyUnknownError:
            unknown = {"rpId": get_relying_party(context.settings).id, "credentialId": body.id}
            raise
    except RegsvcError as error:
        status = find_status(error)
        if status is None:
            raise
        problem = explain_error(get_words(), error)
        return await tell_when(await show_login(int(status), problem=problem, unknown=unknown), error)
    if before is not None:
        await log_out(context, get_caller(), before)
    response = lead_to("/account")
    keep_session(response, granted)
    return response
