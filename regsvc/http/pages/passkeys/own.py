"""The passkeys of one's account, on its security page."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from quart import Response

from regsvc.accounts.factors.passkeys import PasskeyNotFoundError
from regsvc.flows.factors import passkeys as flow
from regsvc.flows.factors.passkeys import AddPasskeyBody, RenamePasskeyBody
from regsvc.http.context import Context, get_context
from regsvc.http.pages.browser_session import find_visitor
from regsvc.http.pages.factors.security import act_on
from regsvc.http.pages.forms import check_same_origin
from regsvc.http.pages.page import blueprint
from regsvc.http.pages.passkeys.answers import read_answer
from regsvc.http.request.body import read_id, read_values
from regsvc.http.request.caller import get_caller
from regsvc.http.response.json_response import answer
from regsvc.schemas.passkeys import CreatedPasskey
from regsvc.security.signing.access_token import AccessToken, AccessTokenInvalidError

_PATH = "/account/security/passkeys"


@blueprint.post(f"{_PATH}/options")
async def offer_new_passkey() -> Response:
    """Give the page's script the options for another passkey."""
    return answer(await flow.begin_passkey(get_context(), get_caller(), await _find_asking()))


@blueprint.post("/account/proof/options")
async def offer_passkey_proof() -> Response:
    """Give the page's script the options for a proof by passkey."""
    return answer(await flow.begin_proof(get_context(), get_caller(), await _find_asking()))


async def _find_asking() -> AccessToken:
    check_same_origin()
    visitor = await find_visitor()
    if visitor is None:
        raise AccessTokenInvalidError
    return visitor


@blueprint.post(_PATH)
async def submit_new_passkey() -> Response:
    """Add a passkey, named after the browser."""

    async def add(context: Context, visitor: AccessToken, form: Mapping[str, str]) -> None:
        created = read_answer(form, "passkey", CreatedPasskey)
        await flow.add_passkey(context, get_caller(), visitor, AddPasskeyBody(passkey=created))

    return await act_on("passkeys", add, done="passkey_added")


@blueprint.post(f"{_PATH}/rename")
async def submit_passkey_name() -> Response:
    """Give a passkey another name."""

    async def rename(context: Context, visitor: AccessToken, form: Mapping[str, str]) -> None:
        body = read_values(RenamePasskeyBody, {"name": form.get("name", "").strip()})
        await flow.rename_passkey(context, get_caller(), visitor, _read_passkey(form), body)

    return await act_on("passkeys", rename, done="passkey_renamed")


@blueprint.post(f"{_PATH}/remove")
async def submit_passkey_removal() -> Response:
    """Remove a passkey, unless it is the last way in."""

    async def remove(context: Context, visitor: AccessToken, form: Mapping[str, str]) -> None:
        await flow.remove_passkey(context, get_caller(), visitor, _read_passkey(form))

    return await act_on("passkeys", remove, done="passkey_removed")


def _read_passkey(form: Mapping[str, str]) -> UUID:
    return read_id(form.get("passkey", ""), PasskeyNotFoundError)
