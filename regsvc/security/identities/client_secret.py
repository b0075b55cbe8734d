"""Our credentials at a provider's token endpoint (RFC 6749, 2.3.1)."""

from __future__ import annotations

import base64
import time
from typing import Final
from urllib.parse import quote_plus

from regsvc.config.identities.identity_settings import ProviderSettings

LIFE: Final = (
    300  # seconds of a client secret for Apple, which takes six months at most; each request makes its own
)


def authenticate(
    provider: ProviderSettings, form: dict[str, str], *, basic: bool
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the headers and the form of a request with our credentials.

    Args:
        provider: whose token endpoint it is for.
        form: without credentials.
        basic: the secret goes in the header.
    """
    secret = make_apple_secret(provider) if provider.private_key else provider.client_secret
    if basic:
        pair = f"{quote_plus(provider.client_id)}:{quote_plus(secret)}"
        return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}, form
    return {}, {**form, "client_id": provider.client_id, "client_secret": secret}


def make_apple_secret(provider: ProviderSettings) -> str:
    """Return a fresh client secret for Apple: a JWT that its team's key signs with ES256."""
    import jwt  # noqa: PLC0415 - only where it is used

    now = int(time.time())
    claims = {
        "iss": provider.team_id,
        "sub": provider.client_id,
        "aud": provider.issuer,
        "iat": now,
        "exp": now + LIFE,
    }
    return jwt.encode(claims, provider.private_key, "ES256", headers={"kid": provider.key_id})
