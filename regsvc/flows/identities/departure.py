"""Send a browser to an identity provider. Nothing is stored: the browser keeps what its return is checked with."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from regsvc.config.identities.identity_settings import ProviderSettings
from regsvc.errors import RegsvcError
from regsvc.flows.service import Service
from regsvc.security.identities.flow_state import Purpose, begin_flow, seal_flow

_CHALLENGE: Final = re.compile(r"[A-Za-z0-9_-]{43}")  # S256 of RFC 7636 alone


class ProviderNotFoundError(RegsvcError):
    """There is no identity provider of this name."""

    code = "identity_provider_not_found"


class ReturnNotAllowedError(RegsvcError):
    """This login may not return to that URI, or has no code challenge (S256)."""

    code = "return_not_allowed"


@dataclass(frozen=True, repr=False)
class Departure:
    """Where a browser goes, and what it keeps.

    Args:
        url: at the provider.
        kept: the sealed flow, for a cookie.
    """

    url: str
    kept: str


async def depart(
    service: Service,
    name: str,
    purpose: Purpose = "login",
    *,
    return_to: str = "",
    code_challenge: str = "",
    session: UUID | None = None,
    target: str = "",
) -> Departure:
    """Return where a browser goes to log in with a provider, and what it keeps until it returns.

    Args:
        service: what to work with.
        name: of the provider.
        purpose: what the identity is for.
        return_to: URI of another client that a code of ours goes to.
        code_challenge: of that client.
        session: that the identity is for.
        target: word for the page that a proof leads to.

    Raises:
        ProviderNotFoundError: there is no such provider.
        ReturnNotAllowedError: the URI is not listed, character for character, or has no challenge with it.
        ProviderUnavailableError, IdentityRefusedError: see `IdentityProvider.make_request`.
    """
    provider = find_provider(service, name)
    if return_to or code_challenge:
        listed = return_to in service.settings.oidc_return_to
        if not listed or not _CHALLENGE.fullmatch(code_challenge):
            raise ReturnNotAllowedError
    flow = begin_flow(
        name,
        purpose,
        return_to=return_to,
        code_challenge=code_challenge,
        session="" if session is None else str(session),
        target=target,
    )
    url = await service.providers.get(provider).make_request(flow, redirect_uri(service, name))
    return Departure(url, seal_flow(service.secrets, flow))


def find_provider(service: Service, name: str) -> ProviderSettings:
    """Return the settings of a provider.

    Raises:
        ProviderNotFoundError: there is no such provider.
    """
    provider = service.settings.find_provider(name)
    if provider is None:
        raise ProviderNotFoundError
    return provider


def redirect_uri(service: Service, name: str) -> str:
    """Return where a provider sends its answer: a path of its own, so that no other's is taken for it (RFC 9700)."""
    return f"{service.settings.public_url}/login/with/{name}/done"
