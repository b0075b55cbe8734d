"""Forms of pages: what came with one, that it came from a page of ours, and the cookie that a tab is known by."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

from quart import Response, request

from regsvc.http.context import get_context
from regsvc.http.response.errors import OriginNotAllowedError, UnsupportedMediaTypeError

_FORM = "application/x-www-form-urlencoded"


async def read_form() -> dict[str, str]:
    """Return the fields of the current request's form, the first of each name.

    Raises:
        OriginNotAllowedError: it was not sent from a page of ours.
        UnsupportedMediaTypeError: it is no form.
    """
    check_same_origin()
    if request.mimetype != _FORM:
        raise UnsupportedMediaTypeError
    return dict((await request.form).items())


def check_same_origin() -> None:
    """Refuse what another site's page has a browser send: cookies would go with it.

    Browsers say where a request came from in `Sec-Fetch-Site`, older ones in `Origin` alone, and no page can make
    them say otherwise. A form without either is no browser's of today (ASVS 5.0, 3.5.1).

    Raises:
        OriginNotAllowedError: it did not come from a page of ours.
    """
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        allowed = site == "same-origin"
    else:
        own = {get_context().settings.public_url, f"{request.scheme}://{request.host}"}
        allowed = request.headers.get("Origin") in own
    if not allowed:
        raise OriginNotAllowedError


def lead_to(path: str) -> Response:
    """Return what leads a browser to a page of ours, so that reading it again sends no form again."""
    return Response(b"", 303, headers={"Location": path, "Cache-Control": "no-store"})


def set_cookie(response: Response, name: str, value: str, *, seconds: int | None = None) -> None:
    """Have a browser keep a secret for this host alone, out of the reach of scripts and other sites.

    Args:
        response: what it goes with.
        name: of the cookie, without its prefix.
        value: the secret; empty, and the cookie goes.
        seconds: how long it is kept; None: until the browser is closed.
    """
    response.set_cookie(
        _full_name(name),
        value,
        max_age=seconds if value else 0,
        path="/",
        secure=not _is_loopback(),
        httponly=True,
        samesite="Strict",
    )


def get_cookie(name: str) -> str:
    """Return what a browser kept by `set_cookie`, or nothing."""
    return request.cookies.get(_full_name(name), "")


def _full_name(name: str) -> str:
    """Return a cookie's name: `__Host-` has browsers refuse it from anybody but this host over TLS (RFC 6265bis)."""
    return name if _is_loopback() else f"__Host-{name}"


def _is_loopback() -> bool:
    """Say whether people reach this service by plain HTTP on their own machine, where there is no TLS."""
    url = urlsplit(get_context().settings.public_url)
    if url.scheme != "http" or url.hostname is None:
        return False
    if url.hostname == "localhost":
        return True
    try:
        return ip_address(url.hostname).is_loopback
    except ValueError:
        return False
