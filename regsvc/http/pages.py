"""The few pages that a person sees: what a mail's links open, and in `dev` a word of welcome.

The token of a link stands in the fragment (`#t=…`), which no browser sends and no log sees; the page's script
takes it out of the address bar and posts it when a person presses the button, and never before.
"""

from __future__ import annotations

from quart import Blueprint, Response, make_response, render_template
from werkzeug.exceptions import NotFound

from regsvc.http.context import get_context

blueprint = Blueprint(
    "pages", __name__, template_folder="templates", static_folder="static", static_url_path="/static"
)

# No inline code, nothing from elsewhere, no frames (CSP level 3).
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


@blueprint.get("/confirm")
async def confirm() -> Response:
    """Show the page that a confirmation mail links to."""
    return await _page("confirm.html")


@blueprint.get("/not-me")
async def not_me() -> Response:
    """Show the page behind "this was not me"."""
    return await _page("not_me.html")


@blueprint.get("/")
async def welcome() -> Response:
    """Show a newcomer around, in `dev` alone."""
    if not get_context().dev:
        raise NotFound
    return await _page("welcome.html", public_url=get_context().settings.public_url)


async def _page(template: str, **values: object) -> Response:
    html = await render_template(template, brand=get_context().settings.brand_name, **values)
    response = await make_response(html)
    assert isinstance(response, Response)  # noqa: S101 - Quart makes its own of a text
    response.headers["Content-Security-Policy"] = PAGE_POLICY
    response.headers["Cache-Control"] = "no-store"
    return response
