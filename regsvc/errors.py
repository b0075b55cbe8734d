"""Everything that regsvc raises on purpose.

One root; the docstring of a class is its message. Driver errors are translated once, where they enter, with
their cause kept. Which status and code an error has over HTTP stands in one table, in `regsvc.http.problems`.
"""

from __future__ import annotations


class RegsvcError(Exception):
    """Something went wrong in regsvc."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or type(self).__doc__ or "")


class ConfigurationError(RegsvcError):
    """The configuration is not usable."""


class SchemaMismatchError(ConfigurationError):
    """The database has another schema than this program; run `regsvc migrate`."""


class UnavailableError(RegsvcError):
    """Something this needs is out of reach at the moment."""

    def __init__(self, message: str | None = None, *, retry_after: float = 2.0) -> None:
        """Args: message: what is missing. retry_after: seconds after which a client may try again."""
        super().__init__(message)
        self.retry_after = retry_after


class DatabaseUnavailableError(UnavailableError):
    """The database does not answer at the moment."""


class BrokerUnavailableError(UnavailableError):
    """RabbitMQ does not answer at the moment."""


class BrokerTopologyError(BrokerUnavailableError):
    """A queue of RabbitMQ is declared otherwise than regsvc needs it."""


class MalformedMessageError(RegsvcError):
    """A message from RabbitMQ is not one of ours."""


class OverloadedError(UnavailableError):
    """Too much is waiting in line at the moment."""


class MailServerUnavailableError(UnavailableError):
    """The mail server does not answer at the moment."""
