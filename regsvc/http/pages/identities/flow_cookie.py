"""The cookie that ties a provider's answer to the browser that went there."""

from __future__ import annotations

from quart import Response

from regsvc.flows.identities.departure import Departure
from regsvc.http.context import get_context
from regsvc.http.pages.forms import get_cookies, set_cookie
from regsvc.security.identities.flow_state import LIFE, open_identity, seal_identity
from regsvc.security.identities.proven_identity import ProvenIdentity

_COOKIE = "regsvc-identity-flow"
_IDENTITY = "regsvc-identity"


def lead_away(departure: Departure) -> Response:
    """Redirect a browser to a provider, with the cookie for its return."""
    response = Response(b"", 303, headers={"Location": departure.url, "Cache-Control": "no-store"})
    set_cookie(response, _COOKIE, departure.kept, seconds=LIFE, samesite="Lax")
    return response


def get_flows() -> list[str]:
    """Return what the browser kept, not yet opened."""
    return get_cookies(_COOKIE)


def forget_flow(response: Response) -> None:
    """Delete the cookie."""
    set_cookie(response, _COOKIE, "", samesite="Lax")


def keep_identity(response: Response, proven: ProvenIdentity) -> None:
    """Keep a proven identity in this browser while its person is asked for the terms."""
    set_cookie(response, _IDENTITY, seal_identity(get_context().secrets, proven), seconds=LIFE)


def find_identity(provider: str) -> ProvenIdentity | None:
    """Return the proven identity that this browser keeps, or None."""
    opened = (open_identity(get_context().secrets, text, provider) for text in get_cookies(_IDENTITY))
    return next((found for found in opened if found is not None), None)


def forget_identity(response: Response) -> None:
    """Delete the cookie of the proven identity."""
    set_cookie(response, _IDENTITY, "")
