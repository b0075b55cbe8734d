"""Who may sign up, and on what conditions.

What is decided here follows from the settings and from what the client sent, never from an account: it is decided
before anything is looked up, so that it tells nothing.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from regsvc.accounts.address import Address
from regsvc.config.settings import Settings
from regsvc.errors import FieldError, RegsvcError, ValidationFailedError

TermsText = Annotated[
    str | None,
    StringConstraints(max_length=40),
    Field(
        description="The version of the terms that the user accepts, where the service has terms.",
        exclude_if=lambda value: (
            value is None
        ),  # a request is known by its digest, in which older programs have none
    ),
]


class SignupClosedError(RegsvcError):
    """No new accounts can be created here."""

    code = "signup_closed"


class InvitationNeededError(RegsvcError):
    """An account needs an invitation. Open the link in your invitation email."""

    code = "invitation_needed"


class DomainNotAllowedError(ValidationFailedError):
    """Addresses of this domain are not accepted here."""

    code = "domain_not_allowed"

    def __init__(self) -> None:
        detail = type(self).__doc__ or ""
        super().__init__(detail, fields=[FieldError("/email", self.code, detail)])


class TermsNeededError(ValidationFailedError):
    """Accept the present version of the terms first."""

    code = "terms_needed"

    def __init__(self, version: str, url: str) -> None:
        """Args: version: the one to accept. url: where it can be read."""
        detail = type(self).__doc__ or ""
        super().__init__(detail, fields=[FieldError("/terms", "needed", detail)])
        self.members = {"terms": {"version": version, "url": url}}


def check_signup_open(settings: Settings, *, invited: bool = False) -> None:
    """Refuse a new account unless the service takes any.

    Args:
        settings: of the service.
        invited: whether an invitation asks for it.

    Raises:
        SignupClosedError: it takes none.
        InvitationNeededError: it takes those that were invited alone.
    """
    if settings.signup == "closed":
        raise SignupClosedError
    if settings.signup == "invite" and not invited:
        raise InvitationNeededError


def check_domain(settings: Settings, address: Address) -> None:
    """Refuse an address that may not belong to an account.

    Raises:
        DomainNotAllowedError: its domain is denied, or is none of those that are allowed.
    """
    domain = address.key.rpartition("@")[2]
    allow, deny = settings.domains_allow, settings.domains_deny
    if (allow is not None and not allow.cover(domain)) or (deny is not None and deny.cover(domain)):
        raise DomainNotAllowedError


def check_terms(settings: Settings, accepted: str | None) -> str | None:
    """Return the version of the terms that a new user accepts, or None where there are no terms.

    Raises:
        TermsNeededError: it is not the present one.
    """
    terms = settings.terms
    if terms is None:
        return None
    if accepted != terms.version:
        raise TermsNeededError(terms.version, terms.url)
    return terms.version
