"""The kinds of messages and their values.

A new kind is a dataclass here, a `.txt` and a `.html` template named after its `kind`, and a table of texts of that
name in every language.
"""

# Without `from __future__ import annotations`: the fields' checks are read from their annotations.

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import timedelta
from functools import cache
from typing import Annotated, Any, ClassVar, Final, get_args, get_origin

from regsvc.mail.message.values import Change, Code, Link, Masked, Moment, OptionalLink, Shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """The base of all kinds of messages."""

    kind: ClassVar[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptMail(Mail):
    """A message with the origin of the request that caused it.

    Args:
        occurred_at: When the request arrived.
        origin: Approximate origin, a network prefix or place; any text, it is cleaned.
        client: Approximate software, a browser family; any text, it is cleaned.
    """

    occurred_at: Moment
    origin: Shown
    client: Shown


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmMail(AttemptMail):
    """To a new user: confirm your address.

    Args:
        link: URL of the page with the button.
        code: Six digits to enter instead.
        not_me_link: URL that cancels the sign-up.
        valid_hours: Lifetime of link and code from the acceptance by the mail server.
    """

    kind: ClassVar[str] = "confirm"

    link: Link
    code: Code
    not_me_link: Link
    valid_hours: int = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountExistsMail(AttemptMail):
    """To an account's owner: your address was used in a new sign-up.

    Args:
        login_link: URL of the login page, if any.
        reset_link: URL to request a password reset, if any; both are shown or neither.
    """

    kind: ClassVar[str] = "account_exists"

    login_link: OptionalLink = None
    reset_link: OptionalLink = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginCodeMail(AttemptMail):
    """To an account's owner: the code to log in with.

    Args:
        code: Six digits to enter where the code was requested.
        valid_minutes: Lifetime of the code from the acceptance by the mail server.
    """

    kind: ClassVar[str] = "login_code"

    code: Code
    valid_minutes: int = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class NoAccountMail(AttemptMail):
    """To an address without an account: a login code was requested for it.

    Args:
        signup_link: URL of the sign-up page.
    """

    kind: ClassVar[str] = "no_account"

    signup_link: Link


@dataclass(frozen=True, slots=True, kw_only=True)
class LegacyConfirmMail(Mail):
    """To a new user of the legacy system: confirm your address there.

    Args:
        link: URL of its page that confirms the address.
    """

    kind: ClassVar[str] = "foreign_confirm"

    link: Link


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkedMail(AttemptMail):
    """A message to a user with a link that changes the user's account.

    Args:
        link: URL of the page with the button.
        valid_for: Lifetime of the link, in `unit`s.
    """

    page: ClassVar[str]  # that the link opens
    unit: ClassVar[timedelta]  # of the lifetime; the kind's texts name it

    link: Link
    valid_for: int


@dataclass(frozen=True, slots=True, kw_only=True)
class InvitationMail(LinkedMail):
    """To an address that an administrator invited: create an account."""

    kind: ClassVar[str] = "invitation"
    page: ClassVar[str] = "invite"
    unit: ClassVar[timedelta] = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class PasswordResetMail(LinkedMail):
    """To a user who requested a password reset: choose a new password."""

    kind: ClassVar[str] = "password_reset"
    page: ClassVar[str] = "reset"
    unit: ClassVar[timedelta] = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class EmailChangeMail(LinkedMail):
    """To the new address of an email change: confirm your address.

    Args:
        account_email: The account's current address, shown masked.
        account_since: When the account was created.
        not_me_link: URL that rejects the email change.
    """

    kind: ClassVar[str] = "email_change"
    page: ClassVar[str] = "email-change"
    unit: ClassVar[timedelta] = timedelta(hours=1)

    account_email: Masked
    account_since: Moment
    not_me_link: Link


@dataclass(frozen=True, slots=True, kw_only=True)
class EmailMovingMail(LinkedMail):
    """To the old address of an email change: the change was requested, and the link stops it."""

    kind: ClassVar[str] = "email_moving"
    page: ClassVar[str] = "email-undo"
    unit: ClassVar[timedelta] = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class EmailChangedMail(LinkedMail):
    """To the old address of an email change: the change is done, and the link undoes it."""

    kind: ClassVar[str] = "email_changed"
    page: ClassVar[str] = "email-undo"
    unit: ClassVar[timedelta] = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class EmailUndoingMail(AttemptMail):
    """To the new address of an email change: the old address undoes the change in a day."""

    kind: ClassVar[str] = "email_undoing"


@dataclass(frozen=True, slots=True, kw_only=True)
class EmailTakenMail(AttemptMail):
    """To an account's owner: another account requested an email change to your address."""

    kind: ClassVar[str] = "email_taken"


@dataclass(frozen=True, slots=True, kw_only=True)
class WarningMail(AttemptMail):
    """A warning to an account's owner of what another person may have done.

    Args:
        forgot_link: URL to request a password reset, which ends every session.
    """

    forgot_link: Link


@dataclass(frozen=True, slots=True, kw_only=True)
class PasswordChangedMail(WarningMail):
    """To an account's owner: your password was changed."""

    kind: ClassVar[str] = "password_changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class PasswordResetDoneMail(WarningMail):
    """To an account's owner: your password was reset through a mailed link."""

    kind: ClassVar[str] = "password_reset_done"


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshTokenReusedMail(WarningMail):
    """To an account's owner: a refresh token was reused, so another person may have a copy."""

    kind: ClassVar[str] = "refresh_token_reused"


@dataclass(frozen=True, slots=True, kw_only=True)
class PanicMail(LinkedMail):
    """A security notice to an account's owner; the link takes the account back."""

    page: ClassVar[str] = "panic"
    unit: ClassVar[timedelta] = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewLoginMail(PanicMail):
    """To an account's owner: a login from a new place."""

    kind: ClassVar[str] = "new_login"


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityChangedMail(PanicMail):
    """To an account's owner: a way to log in was added, removed or misused.

    Args:
        about: What happened, the name of a text in `changes`.
    """

    kind: ClassVar[str] = "security_changed"

    about: Change


ACCOUNT_KINDS: Final[Mapping[str, type[AttemptMail]]] = {
    kind.kind: kind
    for kind in (
        PasswordResetMail,
        PasswordResetDoneMail,
        PasswordChangedMail,
        RefreshTokenReusedMail,
        NewLoginMail,
        SecurityChangedMail,
        EmailChangeMail,
        EmailMovingMail,
        EmailChangedMail,
        EmailUndoingMail,
        EmailTakenMail,
    )
}
"""The mails about an account by their kind: they say what their letter brings, and no more."""


def checked_values(mail: Mail) -> dict[str, Any]:
    """Return a message's checked values by name.

    Raises:
        ValueError: A value is not allowed in a message.
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
