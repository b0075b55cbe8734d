"""What may go wrong between us and an identity provider."""

from __future__ import annotations

from regsvc.errors import RegsvcError, UnavailableError


class ProviderUnavailableError(UnavailableError):
    """The identity provider does not answer at the moment. Try again, or log in another way."""

    code = "identity_provider_unavailable"


class IdentityRefusedError(RegsvcError):
    """The identity provider's answer is not valid, so you are not logged in. Start again."""

    code = "identity_refused"

    def __init__(self, reason: str = "") -> None:
        """Args: reason: what is wrong, for the log; it repeats nothing of the answer."""
        super().__init__()
        self.reason = reason
