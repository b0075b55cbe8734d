"""A sample message of each kind, for previews."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from regsvc.mail.message import kinds
from regsvc.mail.message.kinds import EmailChangeMail, LinkedMail, Mail, NoAccountMail, WarningMail
from regsvc.mail.message.render import Renderer
from regsvc.mail.message.values import Code, Link, Moment, OptionalLink

_TOKEN = "SAMPLE" * 10  # as long as a real token, and recognisably fake
_MOMENT = datetime(2026, 1, 31, 9, 5, tzinfo=UTC)
_TEXTS = {"origin": "203.0.113.0/24", "client": "Firefox on Linux", "about": "passkey_added"}
_PAGES = {"link": "confirm", "reset_link": "forgot"}
_LIVES = {timedelta(minutes=1): 30, timedelta(hours=1): 24, timedelta(days=1): 7}


RECIPIENT: Final = "ann@example.com"
_MAIL_ID = UUID(int=0)


@dataclass(frozen=True, slots=True)
class Sample:
    """A sample message of a kind in a language, as the octets to send."""

    kind: str
    language: str
    source: bytes


def render_samples(
    renderer: Renderer, public_url: str, *, kind: str | None = None, language: str | None = None
) -> Iterator[Sample]:
    """Yield a sample of every kind of message in every language of the renderer.

    Args:
        renderer: has sender, brand and templates.
        public_url: base URL of links.
        kind: Only this kind.
        language: Only this language.
    """
    now = datetime.now(UTC)
    for mail in make_samples(public_url):
        for known in renderer.languages:
            if kind in {None, mail.kind} and language in {None, known}:
                source = renderer.render(mail, mail_id=_MAIL_ID, recipient=RECIPIENT, locale=known, now=now)
                yield Sample(mail.kind, known, source)


def make_samples(public_url: str) -> Iterator[Mail]:
    """Yield a sample message of every kind, with all optional values.

    Args:
        public_url: base URL of its links.
    """
    for kind in vars(kinds).values():
        if isinstance(kind, type) and issubclass(kind, Mail) and "kind" in vars(kind):
            values = {field.name: _sample(field.name, field.type, public_url) for field in fields(kind)}
            values |= _special(kind, public_url)
            yield kind(**{name: value for name, value in values.items() if value is not MISSING})


def _special(kind: type[Mail], public_url: str) -> dict[str, Any]:
    """Return values for the fields of a message about an account."""
    if issubclass(kind, LinkedMail):
        special = {"link": f"{public_url}/{kind.page}#t={_TOKEN}", "valid_for": _LIVES[kind.unit]}
        if issubclass(kind, EmailChangeMail):
            special["account_email"] = "ann@example.com"
        return special
    if issubclass(kind, NoAccountMail):
        return {"signup_link": f"{public_url}/signup"}
    if issubclass(kind, WarningMail):
        return {"forgot_link": f"{public_url}/forgot"}
    return {}


def _sample(name: str, type_: Any, public_url: str) -> Any:
    """Return a field's value, or MISSING to use its default."""
    page = f"{public_url}/{_PAGES.get(name, name.removesuffix('_link').replace('_', '-'))}"
    if type_ == Link:
        return f"{page}#t={_TOKEN}"
    if type_ == OptionalLink:
        return page
    if type_ == Code:
        return "123456"
    if type_ == Moment:
        return _MOMENT
    return _TEXTS.get(name, MISSING)
