"""The forms of the pages, as a browser without scripts sends them."""

from __future__ import annotations

import re
from dataclasses import replace
from http import HTTPStatus
from urllib.parse import quote_plus, urlencode

from regsvc.selftest.caller import Caller, Reply

_OWN = {"Accept": "text/html", "Sec-Fetch-Site": "same-origin"}
_FORM = {"Content-Type": "application/x-www-form-urlencoded"}
_COOKIE = re.compile(r"([\w-]+=[^;]+)")
_TIME = re.compile(rb"\b\d{4}-\d\d-\d\d \d\d:\d\d UTC")


class Browser:
    """A browser with the cookie of one sign-up or login, about one address.

    Args:
        caller: makes the requests.
        address: typed into the forms. Pages show it, so replies are compared without it.
    """

    def __init__(self, caller: Caller, address: str) -> None:
        self._caller = caller
        self._address = address
        self._cookie: dict[str, str] = {}

    def open(self, path: str) -> Reply:
        """Open a page."""
        return self._mask(self._caller.call("GET", path, None, _OWN | self._cookie))

    def send(self, path: str, **fields: str) -> Reply:
        """Send a form, with the address where it has a field for it, and keep the cookie of the reply."""
        content = urlencode({name: text or self._address for name, text in fields.items()}).encode()
        reply = self._caller.call("POST", path, content, _OWN | _FORM | self._cookie)
        kept = _COOKIE.match(reply.headers.get("set-cookie", ""))
        if kept is not None:
            self._cookie = {"Cookie": kept[1]}
        return self._mask(reply)

    @property
    def attempt(self) -> tuple[str, dict[str, str]]:
        """The path of the attempt whose handle the cookie has, and the header with the handle."""
        known, _, handle = self._cookie["Cookie"].partition("=")[2].partition(".")
        return f"/api/v1/registrations/{known}", {"Regsvc-Handle": handle}

    def _mask(self, reply: Reply) -> Reply:
        body = _TIME.sub(b"<moment>", reply.body)
        for form in (self._address, quote_plus(self._address)):
            body = body.replace(form.encode(), b"<address>")
        headers = {**reply.headers, "content-length": str(len(body))}
        return replace(reply, body=body, headers=headers)


def has_pages(caller: Caller) -> bool:
    """Return whether the service has pages, and takes forms of browsers without scripts."""
    login = caller.call("GET", "/login", None, _OWN)
    if not login.headers.get("content-type", "").startswith("text/html"):
        return False
    tried = caller.call("POST", "/forgot", b"email=x", _OWN | _FORM)
    return tried.status == HTTPStatus.UNPROCESSABLE_ENTITY
