"""Secrets that a client saw: what it sent and was sent, to look for where none of them may be."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.services import Mail

_SECRET_MEMBERS = {
    *("password", "new_password", "current_password", "token", "access_token", "refresh_token", "handle"),
}
_SECRET_HEADERS = ("Regsvc-Handle", "Authorization")
_SHORTEST = 10  # characters; anything shorter, such as a code, may stand anywhere by chance
_WORDS = {"User registered successfully!"}


@dataclass
class Canaries:
    """Every secret that passed by, and the answers that nobody's secrets may be in.

    Args:
        secrets: so far.
        addresses: that were typed.
        open_answers: the texts of answers about others, or to keep: administration, export.
        failures: the texts of answers of 500.
    """

    secrets: set[str] = field(default_factory=set)
    addresses: set[str] = field(default_factory=set)
    open_answers: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def hooks(self) -> dict[str, list[Any]]:
        """What a client has to be made with."""
        return {"request": [self._see_request], "response": [self._see_response]}

    def see_mail(self, mail: Mail) -> None:
        """Note the tokens of a mail's links."""
        for page in ("confirm", "not-me", "reset"):
            if f"/{page}#t=" in mail.text:
                self.secrets.add(mail.token_for(page))

    def find_in(self, text: str) -> list[str]:
        """Return which secrets stand in a text."""
        return [secret for secret in self.secrets if secret in text]

    async def _see_request(self, request: httpx.Request) -> None:
        self._see(request.headers, request.content)

    async def _see_response(self, answer: httpx.Response) -> None:
        await answer.aread()
        self._see(answer.headers, answer.content)
        path = answer.request.url.path
        if "/admin/" in path or path.endswith(("/export", "/users")):
            self.open_answers.append(answer.text)
        if answer.status_code == httpx.codes.INTERNAL_SERVER_ERROR:
            self.failures.append(answer.text)

    def _see(self, headers: httpx.Headers, content: bytes) -> None:
        found = [headers[name].removeprefix("Bearer ") for name in _SECRET_HEADERS if name in headers]
        try:
            value = json.loads(content)
        except ValueError:
            value = None
        for name, text in _members(value):
            if name in _SECRET_MEMBERS:
                found.append(text)
            elif name == "email" and "@" in text and "***" not in text:
                self.addresses.add(text)
        self.secrets |= {text for text in found if len(text) >= _SHORTEST and text not in _WORDS}


def _members(value: object) -> Iterator[tuple[str, str]]:
    """Yield the texts in a JSON value, by the names of their members."""
    if isinstance(value, dict):
        for name, member in value.items():
            if isinstance(member, str):
                yield name, member
            else:
                yield from _members(member)
    elif isinstance(value, list):
        for member in value:
            yield from _members(member)
