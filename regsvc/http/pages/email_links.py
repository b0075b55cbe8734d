"""What the links in a mail open.

The token of a link stands in the fragment (`#t=…`), which no browser sends and no log sees; the page's script takes it
out of the address bar, shows what it is about, and posts it when a person presses a button, and never before.
"""

from __future__ import annotations

from quart import Response

from regsvc.http.pages.field_errors import get_lengths
from regsvc.http.pages.page import blueprint, show_page


@blueprint.get("/confirm")
async def open_confirm() -> Response:
    """Show the page that a confirmation mail links to."""
    return await show_page("confirm.html")


@blueprint.get("/not-me")
async def open_not_me() -> Response:
    """Show the page behind "this was not me"."""
    return await show_page("not_me.html")


@blueprint.get("/reset")
async def open_reset() -> Response:
    """Show the page on which a new password is chosen."""
    return await show_page("reset.html", lengths=get_lengths())


@blueprint.get("/email-change")
async def open_email_change() -> Response:
    """Show the page on which an account's new address is confirmed."""
    return await show_page("address_link.html", deed="change")


@blueprint.get("/email-undo")
async def open_email_undo() -> Response:
    """Show the page on which the old address takes a change back."""
    return await show_page("address_link.html", deed="undo")
