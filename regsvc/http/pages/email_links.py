"""What the links in a mail open.

The token of a link stands in the fragment (`#t=…`), which no browser sends and no log sees; the page's script takes it
out of the address bar, shows what it is about, and posts it when a person presses a button, and never before.

Mail programs and link scanners move the fragment into the path (`/confirm%23t=…`) or the query. It is put back, so that
the link works.
"""

from __future__ import annotations

import re
from typing import Any

from quart import Response, request

from regsvc.flows.account.email_change import ConfirmChangeBody, confirm_change
from regsvc.http.context import get_context
from regsvc.http.pages.browser_session import find_visitor
from regsvc.http.pages.error_texts import get_lengths
from regsvc.http.pages.forms import check_same_origin, lead_to
from regsvc.http.pages.page import blueprint, show_page
from regsvc.http.request.body import read_body
from regsvc.http.request.caller import get_caller
from regsvc.http.response.json_response import answer

_TOKEN = re.compile("[A-Za-z0-9._~-]{1,512}")
_PAGES = "<any(confirm, 'not-me', reset, 'email-change', 'email-not-me', 'email-undo', panic, invite):page>"


@blueprint.get(f"/{_PAGES}#t=<token>")
@blueprint.get(f"/{_PAGES}%23t=<token>")
async def restore_fragment(page: str, token: str) -> Response:
    """Lead a browser from a link whose `#` was escaped, once or twice, to the page that it is for."""
    return _lead_to_link(page, token)


@blueprint.get("/confirm")
async def open_confirm() -> Response:
    """Show the page that a confirmation mail links to."""
    return await _open("confirm.html")


@blueprint.get("/not-me")
async def open_not_me() -> Response:
    """Show the page behind "this was not me"."""
    return await _open("not_me.html")


@blueprint.get("/reset")
async def open_reset() -> Response:
    """Show the page on which a new password is chosen."""
    return await _open("reset.html", lengths=get_lengths())


@blueprint.get("/invite")
async def open_invite() -> Response:
    """Show the page behind an invitation, or that no accounts are created at the moment."""
    settings = get_context().settings
    if settings.signup == "closed":
        return await show_page("signup_closed.html", told="closed")
    return await _open("invite.html", lengths=get_lengths(), terms=settings.terms)


@blueprint.get("/email-change")
async def open_email_change() -> Response:
    """Show the page on which an account's new address is confirmed."""
    return await _open("address_link.html", table="email_change", deed="change")


@blueprint.post("/email-change")
async def submit_email_change() -> Response:
    """Confirm an account's new address for a browser, whose cookie may say that it is logged in to the account."""
    check_same_origin()
    body = await read_body(ConfirmChangeBody)
    await confirm_change(get_context(), get_caller(), body, await find_visitor())
    return answer({"message": "email changed"})


@blueprint.get("/email-not-me")
async def open_email_not_me() -> Response:
    """Show the page on which the reader of a mail refuses an account that is to move to their address."""
    return await _open("address_link.html", table="email_not_me", deed="not_me")


@blueprint.get("/email-undo")
async def open_email_undo() -> Response:
    """Show the page on which the old address takes a change back."""
    return await _open("address_link.html", table="email_undo", deed="undo")


@blueprint.get("/panic")
async def open_panic() -> Response:
    """Show the page on which an owner takes the account back after a security notice."""
    return await _open("address_link.html", table="panic", deed="panic")


async def _open(template: str, **values: Any) -> Response:
    """Show the page of a link, or put the token of its query back where it belongs."""
    if token := request.args.get("t") or request.args.get("token"):
        return _lead_to_link(request.path.removeprefix("/"), token)
    return await show_page(template, **values)


def _lead_to_link(page: str, token: str) -> Response:
    # What can be no token, or has more behind it than one, is left to the page to explain.
    found = _TOKEN.match(token)
    return lead_to(f"/{page}#t={found[0]}" if found else f"/{page}#")
