"""Everything that regsvc raises on purpose.

One root; the docstring of a class is its message. Driver errors are translated once, where they enter, with
their cause kept. `code` is what a program reads, stable for good; `regsvc.http.response.problems` says which HTTP
status an error has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


class RegsvcError(Exception):
    """Something went wrong in regsvc."""

    code: ClassVar[str] = "internal_error"

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or type(self).__doc__ or "")


class ConfigurationError(RegsvcError):
    """The configuration is not usable."""


class SchemaMismatchError(ConfigurationError):
    """The database has another schema than this program; run `regsvc migrate`."""

    code = "schema_mismatch"


class UnavailableError(RegsvcError):
    """Something this needs is out of reach at the moment."""

    def __init__(self, message: str | None = None, *, retry_after: float = 2.0) -> None:
        """Args: message: what is missing. retry_after: seconds after which a client may try again."""
        super().__init__(message)
        self.retry_after = retry_after


class DatabaseUnavailableError(UnavailableError):
    """The database does not answer at the moment."""

    code = "database_unavailable"


class BrokerUnavailableError(UnavailableError):
    """RabbitMQ does not answer at the moment."""


class BrokerTopologyError(BrokerUnavailableError):
    """RabbitMQ has a queue otherwise than regsvc needs it, or does not permit its use."""


class MalformedMessageError(RegsvcError):
    """A message from RabbitMQ is not one of ours."""


class OverloadedError(UnavailableError):
    """Too much is waiting in line at the moment."""

    code = "overloaded"


class MailServerUnavailableError(UnavailableError):
    """The mail server does not answer at the moment."""


@dataclass(frozen=True)
class FieldError:
    """What is wrong with one field: where (RFC 6901), a stable word, and a sentence."""

    pointer: str
    code: str
    detail: str


class ValidationFailedError(RegsvcError):
    """The request is not what this call takes."""

    code = "validation_failed"

    def __init__(self, message: str | None = None, *, fields: Sequence[FieldError] = ()) -> None:
        """Args: message: what is wrong as a whole. fields: what is wrong in detail."""
        super().__init__(message)
        self.fields = tuple(fields)


class WeakPasswordError(ValidationFailedError):
    """This password is not accepted."""

    code = "weak_password"


class InvalidCredentialsError(RegsvcError):
    """The address or the password is wrong, or the address is not confirmed yet.

    Open the link in the confirmation mail, or ask for a new mail at /api/v1/confirm-email/resend.
    """

    code = "invalid_credentials"

    def __init__(self) -> None:
        super().__init__(" ".join((type(self).__doc__ or "").split()))


class PreconditionFailedError(RegsvcError):
    """This resource has changed since you read it. Fetch it again and retry."""

    code = "precondition_failed"
