"""The page on which the user of a browser's session proves to be there, before changes of the account."""

from __future__ import annotations

import re

from quart import Response, request

from regsvc.accounts.identities.identity import list_identities
from regsvc.accounts.sessions.proof import WrongCodeError, find_proof
from regsvc.errors import RegsvcError, ValidationFailedError
from regsvc.flows.login.proof import ProofBody, give_proof, list_methods
from regsvc.http.context import get_context
from regsvc.http.pages.browser_session import find_visitor, lead_to_login
from regsvc.http.pages.error_texts import explain_error
from regsvc.http.pages.factors.second_factor import explain_refusal
from regsvc.http.pages.forms import lead_to, read_form
from regsvc.http.pages.page import blueprint, show_page, tell_when
from regsvc.http.pages.passkeys.answers import read_answer
from regsvc.http.pages.texts import get_words
from regsvc.http.request.body import read_values
from regsvc.http.request.caller import get_caller
from regsvc.http.response.problems import find_status
from regsvc.schemas.passkeys import AssertedPasskey
from regsvc.security.signing.access_token import AccessToken, AccessTokenInvalidError

# Where a proof leads, by the word in the page's address: to nothing that another site could choose.
TARGETS = {
    "security": "/account/security",
    "export": "/account?done=export#delete",
    "address": "/account?open=address#address",
    "password": "/account?open=password#password",
    "delete": "/account?open=delete#delete",
    "invitations": "/admin/invitations",
    "webhooks": "/admin/webhooks",
}
_USUAL = "security"
_WEBHOOK = re.compile(r"webhook-([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})")


def lead_to_proof(target: str) -> Response:
    """Redirect a browser to the proof that an act needs.

    Args:
        target: where it leads then, a word of `TARGETS`, or `webhook-` and the id of one.
    """
    return lead_to(f"/account/proof?for={target}")


@blueprint.get("/account/proof")
async def open_proof() -> Response:
    """Ask for the password or a code of the user who is logged in."""
    visitor = await find_visitor()
    return lead_to_login() if visitor is None else await _show(visitor)


@blueprint.post("/account/proof")
async def submit_proof() -> Response:
    """Note that the user is there, and go where the proof is needed."""
    form = await read_form()
    visitor = await find_visitor()
    if visitor is None:
        return lead_to_login()
    given = {name: form[name] for name in ("password", "code") if form.get(name, "").strip()}
    words = get_words()
    try:
        if form.get("assertion"):
            body = ProofBody(assertion=read_answer(form, "assertion", AssertedPasskey))
        else:
            body = read_values(ProofBody, given)
        await give_proof(get_context(), get_caller(), visitor, body)
    except AccessTokenInvalidError:
        return lead_to_login()
    except ValidationFailedError:
        return await _show(visitor, 403, problem=words["errors"]["proof_needed"])
    except RegsvcError as error:
        status = find_status(error)
        if status is None:
            raise
        problem = explain_refusal(words, error) if "code" in given else explain_error(words, error)
        if form.get("assertion") and isinstance(error, WrongCodeError):
            problem = words["errors"]["passkey_invalid"]
        return await tell_when(
            await _show(visitor, int(status), problem=problem, code="code" in given), error
        )
    return lead_to(find_place(read_target()) or TARGETS[_USUAL])


def find_place(target: str) -> str | None:
    """Return the page that a proof leads to, by the word for it; None for another word."""
    webhook = _WEBHOOK.fullmatch(target)
    return f"/admin/webhooks/{webhook[1]}" if webhook else TARGETS.get(target)


def read_target() -> str:
    """Return where the proof that a request is about leads, as a word that `find_place` knows."""
    word = request.args.get("for", "")
    return word if find_place(word) else _USUAL


async def _show(
    visitor: AccessToken, status: int = 200, *, problem: str = "", code: bool = False
) -> Response:
    async with get_context().pool.connection() as conn:
        found = await find_proof(conn, visitor.session_id)
        if found is None:
            return lead_to_login()
        methods = await list_methods(conn, found)
        identities = await list_identities(conn, visitor.user_id)
    return await show_page(
        "proof.html",
        status,
        submits=True,
        target=read_target(),
        methods=methods,
        providers={identity.provider for identity in identities},
        problem=problem,
        code=code or "password" not in methods,
    )
