"""The kinds of mail and what each has to say.

A new kind is a dataclass here, a `.txt` and a `.html` template named after its `kind`, and a table of words of
that name in every language.
"""

# Without `from __future__ import annotations`: the fields' checks are read from their annotations.

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import timedelta
from functools import cache
from typing import Annotated, Any, ClassVar, Final, get_args, get_origin

from regsvc.mail.message.values import Code, Link, Masked, Moment, OptionalLink, Shown


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
    """To a person who signed up: confirm that this address is yours.

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
    """To an account's owner: a sign-up used your address.

    Args:
        login_link: Where to log in, if there is a page for it.
        reset_link: Where to ask for a new password, likewise; shown together or not at all.
    """

    kind: ClassVar[str] = "account_exists"

    login_link: OptionalLink = None
    reset_link: OptionalLink = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignConfirmMail(Mail):
    """To a person who signed up with the legacy system: confirm that this address is yours.

    Args:
        link: What opens the page that confirms the address there.
    """

    kind: ClassVar[str] = "foreign_confirm"

    link: Link


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkedMail(AttemptMail):
    """A mail about an account, with a link that changes something about it.

    Args:
        link: What opens the page with the button.
        valid_for: How long it lives, in `unit`s.
    """

    page: ClassVar[str]  # that the link opens
    unit: ClassVar[timedelta]  # that its life is told in; the kind's words name it

    link: Link
    valid_for: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PasswordResetMail(LinkedMail):
    """To a user who forgot the password: choose a new one."""

    kind: ClassVar[str] = "password_reset"
    page: ClassVar[str] = "reset"
    unit: ClassVar[timedelta] = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class EmailChangeMail(LinkedMail):
    """To the new address of an email change: confirm that it is yours.

    Args:
        account_email: The address that the account has; it is shown masked.
        account_since: When the account was made.
        not_me_link: What refuses the account.
    """

    kind: ClassVar[str] = "email_change"
    page: ClassVar[str] = "email-change"
    unit: ClassVar[timedelta] = timedelta(hours=1)

    account_email: Masked
    account_since: Moment
    not_me_link: Link


@dataclass(frozen=True, slots=True, kw_only=True)
class EmailMovingMail(LinkedMail):
    """To the current address: an email change was requested, and this link cancels it."""

    kind: ClassVar[str] = "email_moving"
    page: ClassVar[str] = "email-undo"
    unit: ClassVar[timedelta] = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class EmailChangedMail(LinkedMail):
    """To the former address: the email was changed, and this link undoes it."""

    kind: ClassVar[str] = "email_changed"
    page: ClassVar[str] = "email-undo"
    unit: ClassVar[timedelta] = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class EmailUndoingMail(AttemptMail):
    """To the new address: the former address will undo the email change in a day."""

    kind: ClassVar[str] = "email_undoing"


@dataclass(frozen=True, slots=True, kw_only=True)
class EmailTakenMail(AttemptMail):
    """To an account's owner: another account tried to change its email to your address."""

    kind: ClassVar[str] = "email_taken"


@dataclass(frozen=True, slots=True, kw_only=True)
class WarningMail(AttemptMail):
    """A mail to an account's owner about an act that may not have been theirs.

    Args:
        forgot_link: Where to ask for a new password, which ends every session.
    """

    forgot_link: Link


@dataclass(frozen=True, slots=True, kw_only=True)
class PasswordChangedMail(WarningMail):
    """To an account's owner: your password was changed, with the old one."""

    kind: ClassVar[str] = "password_changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class PasswordResetDoneMail(WarningMail):
    """To an account's owner: a new password was set with a reset link."""

    kind: ClassVar[str] = "password_reset_done"


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshTokenReusedMail(WarningMail):
    """To an account's owner: a session's token was used twice, so it may have been stolen."""

    kind: ClassVar[str] = "refresh_token_reused"


ACCOUNT_KINDS: Final[Mapping[str, type[AttemptMail]]] = {
    kind.kind: kind
    for kind in (
        PasswordResetMail,
        PasswordResetDoneMail,
        PasswordChangedMail,
        RefreshTokenReusedMail,
        EmailChangeMail,
        EmailMovingMail,
        EmailChangedMail,
        EmailUndoingMail,
        EmailTakenMail,
    )
}
"""The mails about an account by their kind: they say what their letter brings, and no more."""


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
