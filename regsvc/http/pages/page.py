"""What every page has: its brand, its words, its files, and the rules that a browser holds it to.

A folder `pages` in REGSVC_TEMPLATES stands in for what is here: its templates by name, its words text by text, and a
`brand.css` that comes after our style.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from quart import Blueprint, Quart, Response, current_app, request
from werkzeug.exceptions import HTTPException, NotFound

from regsvc.config.notations import is_loopback
from regsvc.config.settings import Settings
from regsvc.errors import RegsvcError
from regsvc.http.context import get_context
from regsvc.http.pages.error_texts import explain_error
from regsvc.http.pages.forms import lead_to
from regsvc.http.pages.identities.ways import list_ways
from regsvc.http.pages.texts import Words, fill, get_words, load_words, put_words
from regsvc.http.response.problems import answer_bug, answer_http, answer_known
from regsvc.mail.message import compiled
from regsvc.mail.message.render import readable_on
from regsvc.security.passkeys.relying_party import supports_passkeys

blueprint = Blueprint("pages", __name__, static_folder="static", static_url_path="/static")
REPORTS = "/policy-reports"  # where browsers say that something broke a page's policy
_OWN = Path(__file__).with_name("templates")
_TEMPLATES = "REGSVC_TEMPLATES"


def dress(app: Quart, settings: Settings) -> None:
    """Give an application's pages their words, and the operator's own templates before ours.

    Raises:
        ValueError: a file of the operator's is not TOML.
    """
    folder = _own_folder(settings)
    put_words(app.config, load_words(settings.brand_name, folder))
    app.config[_TEMPLATES] = _make_environment(app, [_OWN] if folder is None else [folder, _OWN])
    app.register_error_handler(HTTPException, show_http_error)
    app.register_error_handler(Exception, show_bug)


async def show_page(template: str, status: int = 200, **how: Any) -> Response:
    """Return a page that no cache keeps.

    Args:
        template: its file.
        status: of the answer.
        how: as `make_page` takes it.
    """
    html, headers = make_page(template, **how)
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"  # RFC 9110, 15.5.2
    return Response(html, status=status, headers=headers)


def make_page(
    template: str,
    *,
    words: Words | None = None,
    submits: bool = False,
    frames: bool = False,
    images: bool = False,
    silent: bool = False,
    **values: object,
) -> tuple[str, dict[str, str]]:
    """Return a page's HTML and headers.

    Args:
        template: its file.
        words: its language, if not the one that the browser asks for.
        submits: it has a form that works without scripts.
        frames: it shows another answer of ours in a frame.
        images: it shows images of ours.
        silent: it sends no referrer, whatever it has: its address is a secret.
        values: for the template.
    """
    settings = get_context().settings
    known = words or get_words()
    environment = cast("Environment", current_app.config[_TEMPLATES])
    # Here and now: the milliseconds of a large page are few, and a thread costs more than most pages.
    html = environment.get_template(template).render(
        brand=settings.brand_name,
        logo=settings.brand_logo,
        signup=settings.signup,
        challenge=settings.challenge,
        site=settings.public_url if supports_passkeys(settings.public_url) else "",
        words=known,
        **values,
    )
    return html, {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": _policy(
            settings.brand_logo, submits=submits, frames=frames, images=images
        ),
        "Content-Language": known.language,
        # Browsers heed it at trustworthy origins alone, and complain elsewhere.
        **({"Cross-Origin-Opener-Policy": "same-origin"} if _is_trustworthy(settings.public_url) else {}),
        # A form of a page that sends no referrer has `Origin: null`, which tells it from no other site's.
        "Referrer-Policy": "same-origin" if submits and not silent else "no-referrer",
        "Cache-Control": "no-store",
    }


@blueprint.errorhandler(RegsvcError)
async def show_error(error: RegsvcError) -> Response:
    """Show a person what went wrong; a script gets the problem as the API would say it."""
    problem = await answer_known(error)
    if not _wants_page():
        return problem
    text = explain_error(get_words(), error)
    return await tell_when(await _show_failure(problem.status_code, text), error)


async def show_http_error(error: HTTPException) -> Response:
    """Show a person that there is no such page, or that a request was not understood."""
    problem = await answer_http(error)
    if not _wants_page():
        return problem
    missing = problem.status_code in {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED}
    page = await _show_failure(
        problem.status_code, get_words()["common"]["not_found" if missing else "refused"]
    )
    if "Allow" in problem.headers:
        page.headers["Allow"] = problem.headers["Allow"]
    return page


async def show_bug(error: Exception) -> Response:
    """Show a person that the fault is ours."""
    problem = await answer_bug(error)
    return await _show_failure(500, get_words()["common"]["failed"]) if _wants_page() else problem


def _wants_page() -> bool:
    """Return whether a browser shows the answer to a person."""
    shown = not request.path.startswith(("/api/", "/.well-known/", "/static/"))
    return shown and "text/html" in request.headers.get("Accept", "")


async def _show_failure(status: int, text: str) -> Response:
    return await show_page("error.html", status, text=text, back=_find_way_back())


def _find_way_back() -> str:
    """Return the path of the page that the current request's form is on; empty if there is none."""
    adapter = current_app.url_map.bind("")
    path = request.path
    while path.strip("/"):
        # The form of a sign-up without scripts is on the page of its status.
        known = "/signup/status" if path.startswith("/signup/") else path
        if adapter.test(known, "GET"):
            return known
        path = path.rpartition("/")[0]
    return ""


async def show_cookies_needed(back: str) -> Response:
    """Show that the browser did not keep our cookie.

    Args:
        back: path of the page to try again on.
    """
    return await show_page("error.html", 400, text=get_words()["common"]["cookies_needed"], back=back)


async def tell_when(page: Response, error: RegsvcError) -> Response:
    """Copy the Retry-After header of an error to the page that shows it."""
    problem = await answer_known(error)
    if "Retry-After" in problem.headers:
        page.headers["Retry-After"] = problem.headers["Retry-After"]
    return page


def only_in_dev() -> None:
    """Return 404 for a page of `dev` in other modes.

    Raises:
        NotFound: this is not `regsvc dev`.
    """
    if not get_context().dev:
        raise NotFound


@blueprint.get("/")
async def welcome() -> Response:
    """Lead to the account, which mails mean by the service's address; in `dev`, show a newcomer around."""
    if not get_context().dev:
        return lead_to("/account")
    return await show_page("welcome.html", public_url=get_context().settings.public_url)


@blueprint.get("/static/brand.css")
async def brand() -> Response:
    """Serve what is the operator's choice: a colour, and their own style on top of ours if they have one."""
    settings = get_context().settings
    color = settings.brand_color
    style = f":root {{ --brand: {color}; --on-brand: {readable_on(color)}; }}\n"
    folder = _own_folder(settings)
    if folder is not None and (folder / "brand.css").is_file():
        style += (folder / "brand.css").read_text("utf-8")
    return Response(style, content_type="text/css; charset=utf-8", headers={"Cache-Control": "no-cache"})


def _own_folder(settings: Settings) -> Path | None:
    return None if settings.templates is None else settings.templates / "pages"


def _make_environment(app: Quart, folders: Sequence[Path]) -> Environment:
    """Return what compiles each template once, from the first folder that has it."""

    @cache
    def url_for(endpoint: str, **values: str) -> str:
        return app.url_map.bind("").build(endpoint, values)

    environment = Environment(
        loader=FileSystemLoader(folders),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        bytecode_cache=compiled.PAGES,
    )
    environment.filters["fill"] = fill
    environment.globals["url_for"] = url_for
    environment.globals["list_ways"] = list_ways
    return environment


@cache
def _is_trustworthy(public_url: str) -> bool:
    url = urlsplit(public_url)
    return url.scheme == "https" or is_loopback(url.hostname or "")


@cache
def _policy(logo: str | None, *, submits: bool, frames: bool, images: bool) -> str:
    """Allow a page nothing but its own files and the operator's picture: no inline code (CSP level 3)."""
    shown = "'self' " if images else ""
    if logo is not None:
        url = urlsplit(logo)
        shown += f"{url.scheme}://{url.netloc}"
    forms = "'self'" if submits else "'none'"
    framed = "frame-src 'self'; " if frames else ""
    return (
        f"default-src 'none'; script-src 'self'; style-src 'self'; img-src data: {shown}; connect-src 'self'; "
        f"{framed}form-action {forms}; base-uri 'none'; frame-ancestors 'none'; report-uri {REPORTS}"
    )
