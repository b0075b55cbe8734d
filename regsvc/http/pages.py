"""The few pages that a person sees: what a mail's links open, and in `dev` a word of welcome.

The token of a link stands in the fragment (`#t=…`), which no browser sends and no log sees; the page's script
takes it out of the address bar and posts it when a person presses the button, and never before.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from quart import Blueprint, Response, render_template
from werkzeug.exceptions import NotFound

from regsvc.http.context import get_context
from regsvc.mail.render import readable_on

blueprint = Blueprint(
    "pages", __name__, template_folder="templates", static_folder="static", static_url_path="/static"
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


@blueprint.get("/static/brand.css")
async def brand() -> Response:
    """Serve the one colour that is the operator's choice; a style within the page would need a laxer policy."""
    color = get_context().settings.brand_color
    return Response(
        f":root {{ --brand: {color}; --on-brand: {readable_on(color)}; }}\n",
        content_type="text/css; charset=utf-8",
        headers={"Cache-Control": "no-cache"},
    )


async def _page(template: str, **values: object) -> Response:
    settings = get_context().settings
    html = await render_template(template, brand=settings.brand_name, logo=settings.brand_logo, **values)
    return Response(
        html,
        content_type="text/html; charset=utf-8",
        headers={
            "Content-Security-Policy": _policy(settings.brand_logo),
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cache-Control": "no-store",
        },
    )


def _policy(logo: str | None) -> str:
    """Allow a page nothing but its own files and the operator's picture: no inline code, no frames (CSP level 3)."""
    images = ""
    if logo is not None:
        url = urlsplit(logo)
        images = f"{url.scheme}://{url.netloc}"
    return (
        f"default-src 'none'; script-src 'self'; style-src 'self'; img-src data: {images}; connect-src 'self'; "
        "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    )
