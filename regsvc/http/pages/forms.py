"""Forms of pages: their fields, the check that a page of ours sent them, and cookies."""

from __future__ import annotations

from itertools import islice
from typing import Literal
from urllib.parse import urlsplit

from quart import Response, request

from regsvc.http.context import get_context
from regsvc.http.request.body import check_content_coding, read_pairs
from regsvc.http.request.caller import get_caller
from regsvc.http.request.cookies import read_cookies
from regsvc.http.response.errors import OriginNotAllowedError, UnsupportedMediaTypeError

_FORM = "application/x-www-form-urlencoded"
_SOLUTION = "altcha"  # the field of a solved challenge, as ALTCHA's widget names it
_MOST_COOKIES = 8
_MOST_FIELDS = 64


async def read_form(*, without_referrer: bool = False) -> dict[str, str]:
    """Return the fields of the current request's form, the first of each name.

    Args:
        without_referrer: the page that has the form sends no referrer; see `check_same_origin`.

    Raises:
        OriginNotAllowedError: it was not sent from a page of ours.
        UnsupportedMediaTypeError: it is no form.
        ValidationFailedError: it has more fields than any of ours.
    """
    check_same_origin(without_referrer=without_referrer)
    fields = dict(reversed(await read_foreign_form()))
    if _SOLUTION in fields:
        get_caller().solution = fields.pop(_SOLUTION)
    return fields


async def read_foreign_form() -> list[tuple[str, str]]:
    """Return the fields of a form that any site may have sent. Nothing may change by it.

    Raises:
        UnsupportedMediaTypeError: it is no form.
        ValidationFailedError: it has more fields than any of ours.
    """
    check_content_coding()
    if request.mimetype != _FORM:
        raise UnsupportedMediaTypeError
    return await read_pairs(_MOST_FIELDS)


def check_same_origin(*, without_referrer: bool = False) -> None:
    """Refuse what another site's page has a browser send: cookies would go with it.

    Browsers say where a request came from in `Sec-Fetch-Site`, except over plain HTTP to a name that is not loopback.
    There, and from older browsers, `Origin` decides. Pages cannot forge either (ASVS 5.0, 3.5.1).

    Args:
        without_referrer: the page that sent it has no referrer, so that its `Origin` is `null` where it decides. The
            form has to prove by a secret of this browser's, such as the state of a flow, that it is ours.

    Raises:
        OriginNotAllowedError: it did not come from a page of ours.
    """
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        allowed = site == "same-origin"
    else:
        own = {get_context().settings.public_url}
        if not is_secure():  # TLS ends before us, so there `http://host` may be any host on the way
            own.add(f"http://{request.host}")
        if without_referrer:
            own.add("null")
        allowed = request.headers.get("Origin") in own
    if not allowed:
        raise OriginNotAllowedError


def lead_to(path: str) -> Response:
    """Redirect a browser to a page of ours, so that a reload sends no form again."""
    return Response(b"", 303, headers={"Location": path, "Cache-Control": "no-store"})


def comes_from(path: str) -> bool:
    """Return whether the current page was opened from another page of ours, as far as the browser says."""
    return urlsplit(request.headers.get("Referer", "")).path == path


def set_cookie(
    response: Response,
    name: str,
    value: str,
    *,
    seconds: int | None = None,
    samesite: Literal["Strict", "Lax"] = "Strict",
) -> None:
    """Set a cookie for this host alone, out of the reach of scripts and other sites.

    Where REGSVC_PUBLIC_URL is http, the cookie is not `Secure`: browsers would drop it, and logging in would fail.

    Args:
        response: what it goes with.
        name: of the cookie, without its prefix.
        value: the secret; empty, and the cookie goes.
        seconds: how long it is kept; None: until the browser is closed.
        samesite: `Lax` also comes with a GET that another site leads to.
    """
    response.set_cookie(
        _full_name(name),
        value,
        max_age=seconds if value else 0,
        path="/",
        secure=is_secure(),
        httponly=True,
        samesite=samesite,
    )


def get_cookies(name: str) -> list[str]:
    """Return the values that a browser has for a name, at most a few.

    Without TLS, a sibling domain may have set one of the same name; only the caller can tell them apart.
    """
    values = read_cookies(request.headers.getlist("Cookie"), _full_name(name))
    return list(islice(values, _MOST_COOKIES))


def is_secure() -> bool:
    """Return whether people reach this service by TLS, which ends at a proxy before us."""
    return get_context().settings.public_url.startswith("https:")


def _full_name(name: str) -> str:
    """Return a cookie's name: `__Host-` has browsers refuse it from any other host (RFC 6265bis, 4.1.3.2)."""
    return f"__Host-{name}" if is_secure() else name
