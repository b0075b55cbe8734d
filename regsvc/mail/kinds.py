"""The kinds of mail and what each has to say.

A new kind is a dataclass here, a `.txt` and a `.html` template named after its `kind`, and a table of words of
that name in every language.
"""

# Without `from __future__ import annotations`: the fields' checks are read from their annotations.

from dataclasses import dataclass, fields
from functools import cache
from typing import Annotated, Any, ClassVar, get_args, get_origin

from regsvc.mail.values import Code, Link, Moment, OptionalLink, Shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """What is common to every kind of mail: that it is of one."""

    kind: ClassVar[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptMail(Mail):
    """A mail that something here was the cause of, and what it says of that.

    Args:
        occurred_at: When whatever caused it came in.
        origin: Roughly from where, a network prefix or place; anything, it is cleaned.
        client: Roughly with what, a family of browsers; anything, it is cleaned.
    """

    occurred_at: Moment
    origin: Shown
    client: Shown


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmMail(AttemptMail):
    """To whoever signed up: confirm that this address is yours.

    Args:
        link: What opens the page with the button.
        code: Six digits to type in instead.
        not_me_link: What takes the sign-up back.
        valid_hours: How long link and code live after the mail server took the mail.
    """

    kind: ClassVar[str] = "confirm"

    link: Link
    code: Code
    not_me_link: Link
    valid_hours: int = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountExistsMail(AttemptMail):
    """To an account's owner: somebody tried to sign up with your address.

    Args:
        login_link: Where to log in, if there is a page for it.
        reset_link: Where to ask for a new password, likewise; shown together or not at all.
    """

    kind: ClassVar[str] = "account_exists"

    login_link: OptionalLink = None
    reset_link: OptionalLink = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignConfirmMail(Mail):
    """To whoever signed up with the system that this one replaces, which knows more of it than we do.

    Args:
        link: What opens the page that confirms the address there.
    """

    kind: ClassVar[str] = "foreign_confirm"

    link: Link


def checked_values(mail: Mail) -> dict[str, Any]:
    """Return a mail's values by name, each as its check leaves it.

    Raises:
        ValueError: One of them cannot stand in a mail.
    """
    values = {}
    for name, checks in _checks(type(mail)):  # type: ignore[arg-type]  # mypy asks for the instances' hash
        value = getattr(mail, name)
        for check in checks:
            value = check(value)
        values[name] = value
    return values


@cache
def _checks(kind: type[Mail]) -> tuple[tuple[str, tuple[Any, ...]], ...]:
    return tuple(
        (field.name, get_args(field.type)[1:] if get_origin(field.type) is Annotated else ())
        for field in fields(kind)
    )
