"""Calls that follow each other about one address, compared as one: what the first does not tell, the last may."""

from __future__ import annotations

import secrets
from functools import cached_property

from regsvc.selftest.authenticator import Authenticator
from regsvc.selftest.caller import PREFIX, Caller, Reply
from regsvc.selftest.measurement import Sample
from regsvc.selftest.pages import Browser

_FINAL = ("sent", "bounced", "confirmed", "expired", "repudiated")


class Sequences:
    """Sequences of a stranger's calls.

    Args:
        caller: makes them.
        password: of their sign-ups.
    """

    def __init__(self, caller: Caller, password: str) -> None:
        self._caller = caller
        self._password = password

    def watch(self, path: str, handle: dict[str, str]) -> Sample:
        """Follow an attempt until its mail is sent."""
        reply = self._caller.call("GET", path, None, handle)
        seconds = reply.seconds
        while (shown := reply.value)["state"] not in _FINAL:
            reply = self._caller.call("GET", f"{path}?wait=25&seq={shown['seq']}", None, handle)
            seconds += reply.seconds
        return Sample(reply.status, reply.shape, seconds)

    def give_code(self, address: str) -> Sample:
        """Ask for a code, wait until its mail is sent, and give a wrong one."""
        asked = self._post("/login/code", {"email": address})
        path, handle = follow(asked)
        watched = self.watch(path, handle)
        code = {"login": asked.value["login"], "code": "000000"}
        return _join(watched, self._post("/login/code/verify", code, handle))

    def give_code_on_page(self, address: str) -> Sample:
        """Do the same on the pages, and look at the page that waits for the code."""
        browser = Browser(self._caller, address)
        asked = browser.send("/login/code", email="")
        watched, page = self.watch(*browser.attempt), browser.open("/login/code/status")
        return _join(asked, watched, page, browser.send("/login/code/verify", code="000000"))

    def sign_up_on_page(self, address: str) -> Sample:
        """Send the form, wait until the mail is sent, and look at the page of the sign-up."""
        browser = Browser(self._caller, address)
        name = f"Selftest {secrets.token_hex(4)}"
        terms = self._caller.accepted
        sent = browser.send("/signup", name=name, email="", password=self._password, **terms)
        return _join(sent, self.watch(*browser.attempt), browser.open("/signup/status"))

    def use_passkey(self, address: str) -> Sample:
        """Sign up with a passkey, and log in with it before the sign-up is confirmed."""
        about = {"email": address, "name": f"Selftest {secrets.token_hex(4)}"}
        authenticator = Authenticator(self._origin)
        created = authenticator.create(self._post("/register/passkey/options", about).value)
        signed_up = self._post("/register", {**about, "passkey": created, **self._caller.accepted})
        asked = self._post("/login/passkey/options", {})
        return _join(signed_up, self._post("/login/passkey", {"assertion": authenticator.get(asked.value)}))

    @cached_property
    def _origin(self) -> str:
        """The origin that passkeys belong to."""
        metadata = self._caller.call("GET", "/.well-known/oauth-authorization-server").value
        return str(metadata["issuer"])

    def _post(self, path: str, body: object, headers: dict[str, str] | None = None) -> Reply:
        return self._caller.call("POST", PREFIX + path, body, headers)


def follow(reply: Reply) -> tuple[str, dict[str, str]]:
    """Return the path of the attempt that a call made, and the header with its handle."""
    return reply.headers["location"], {"Regsvc-Handle": reply.headers["regsvc-handle"]}


def _join(*replies: Reply | Sample) -> Sample:
    """Return the sample for replies that followed each other."""
    shapes = "\n".join(reply.shape for reply in replies)
    return Sample(replies[-1].status, shapes, sum(reply.seconds for reply in replies))
