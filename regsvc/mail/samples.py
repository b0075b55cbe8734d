"""One mail of each kind, made up: what a preview shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from datetime import UTC, datetime
from typing import Any

from regsvc.mail import kinds
from regsvc.mail.kinds import LinkedMail, Mail
from regsvc.mail.values import Code, Link, Moment, OptionalLink

_TOKEN = "SAMPLE" * 10  # as long as a real one, and plainly none
_MOMENT = datetime(2026, 1, 31, 9, 5, tzinfo=UTC)
_TEXTS = {"origin": "203.0.113.0/24", "client": "Firefox on Linux"}


def make_samples(public_url: str) -> Iterator[Mail]:
    """Yield a mail of every kind, with all that its kind may say.

    Args:
        public_url: what its links begin with.
    """
    for kind in vars(kinds).values():
        if isinstance(kind, type) and issubclass(kind, Mail) and "kind" in vars(kind):
            pages = {"link": kind.page} if issubclass(kind, LinkedMail) else {"link": "confirm"}
            values = {
                field.name: _sample(field.name, field.type, public_url, pages) for field in fields(kind)
            }
            yield kind(**{name: value for name, value in values.items() if value is not MISSING})


def _sample(name: str, type_: Any, public_url: str, pages: Mapping[str, str]) -> Any:
    """Return what a field may say; MISSING leaves it to its default."""
    page = f"{public_url}/{pages.get(name, name.removesuffix('_link').replace('_', '-'))}"
    if type_ == Link:
        return f"{page}#t={_TOKEN}"
    if type_ == OptionalLink:
        return page
    if type_ == Code:
        return "123456"
    if type_ == Moment:
        return _MOMENT
    if name == "valid_for":
        return 30
    return _TEXTS.get(name, MISSING)
