"""Errors that regsvc raises on purpose.

All derive from one class; the docstring of a class is its message. Driver errors are translated once, where they
enter, and kept as the cause. `code` is for programs and never changes; `regsvc.http.response.problems` maps errors to
HTTP statuses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar


class RegsvcError(Exception):
    """Something went wrong in regsvc."""

    code: ClassVar[str] = "internal_error"
    members: Mapping[str, object] = {}  # what a client is told beside the text

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or type(self).__doc__ or "")


class ConfigurationError(RegsvcError):
    """The configuration is not usable."""


class SchemaMismatchError(ConfigurationError):
    """The database schema does not match this program; run `regsvc migrate`."""

    code = "schema_mismatch"


class UnavailableError(RegsvcError):
    """A dependency of this service is temporarily unavailable."""

    def __init__(self, message: str | None = None, *, retry_after: float = 2.0) -> None:
        """Args: message: what is unavailable. retry_after: seconds after which a client may retry."""
        super().__init__(message)
        self.retry_after = retry_after


class DatabaseUnavailableError(UnavailableError):
    """The database does not answer at the moment."""

    code = "database_unavailable"


class BrokerUnavailableError(UnavailableError):
    """RabbitMQ does not answer at the moment."""


class BrokerTopologyError(BrokerUnavailableError):
    """RabbitMQ has a queue that conflicts with its declaration here, or does not permit its use."""


class MalformedMessageError(RegsvcError):
    """A message from RabbitMQ is not one of ours."""


class OverloadedError(UnavailableError):
    """Too many requests are waiting at the moment."""

    code = "overloaded"


class MailServerUnavailableError(UnavailableError):
    """The mail server does not answer at the moment."""


@dataclass(frozen=True)
class FieldError:
    """One invalid field: a JSON Pointer (RFC 6901), a stable code, and a sentence."""

    pointer: str
    code: str
    detail: str


class ValidationFailedError(RegsvcError):
    """The request is invalid."""

    code = "validation_failed"

    def __init__(self, message: str | None = None, *, fields: Sequence[FieldError] = ()) -> None:
        """Args: message: what is wrong overall. fields: the invalid fields."""
        super().__init__(message)
        self.fields = tuple(fields)


class WeakPasswordError(ValidationFailedError):
    """This password is not accepted."""

    code = "weak_password"


class InvalidCredentialsError(RegsvcError):
    """The address or the password is wrong, or the address is not confirmed yet.

    Open the link in the confirmation email, or request another email at /api/v1/confirm-email/resend.
    """

    code = "invalid_credentials"

    def __init__(self) -> None:
        super().__init__(" ".join((type(self).__doc__ or "").split()))


class PreconditionFailedError(RegsvcError):
    """This resource has changed since you read it. Fetch it again and retry."""

    code = "precondition_failed"
