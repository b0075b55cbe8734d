"""Fetch the access token of XOAUTH2 from the provider's token server (RFC 6749, 4.4)."""

from __future__ import annotations

import json
import ssl
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

import trio

from regsvc.mail.smtp.login import TokenUnavailableError

if TYPE_CHECKING:
    from regsvc.config.settings import Settings

SEAL: Final = "smtp token"
BOUND: Final = b"smtp token"
"""How the token is sealed in the database."""
_PATIENCE: Final = 15.0  # seconds for the whole request
_MAX_ANSWER: Final = 64 * 1024  # octets
_USUAL_LIFE: Final = 3600.0  # seconds, if the answer does not say
_MAX_TOKEN: Final = 16_384


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A token, and the seconds for which it is valid."""

    text: str
    seconds: float


async def fetch_token(settings: Settings, *, tls: ssl.SSLContext | None = None) -> AccessToken:
    """Fetch a new access token with the client's credentials. Redirects are not followed.

    Args:
        settings: with the token server and the credentials.
        tls: replaces the system's trusted authorities.

    Raises:
        TokenUnavailableError: there is none; `refused` if the server objects to us.
    """
    import httpcore2  # noqa: PLC0415 - only where XOAUTH2 is used

    secret = settings.smtp_oauth_client_secret
    form = {
        "grant_type": "client_credentials",
        "client_id": settings.smtp_oauth_client_id,
        "client_secret": "" if secret is None else secret.get_secret_value(),
        **({"scope": settings.smtp_oauth_scope} if settings.smtp_oauth_scope else {}),
    }
    body = bytearray()
    try:
        with trio.fail_after(_PATIENCE):
            async with (
                httpcore2.AsyncConnectionPool(
                    ssl_context=tls or ssl.create_default_context(), network_backend=httpcore2.TrioBackend()
                ) as pool,
                pool.stream(
                    "POST",
                    settings.smtp_oauth_token_url,
                    headers={
                        "Content-Type": "application/x-www-form-urlencoded",
                        "Accept": "application/json",
                    },
                    content=urlencode(form).encode(),
                ) as response,
                aclosing(response.aiter_stream()) as stream,
            ):
                status = response.status
                async for octets in stream:
                    body += octets
                    if len(body) > _MAX_ANSWER:
                        raise TokenUnavailableError("the token server's answer is too long")
    except (trio.TooSlowError, httpcore2.TimeoutException) as error:
        raise TokenUnavailableError("the token server does not answer") from error
    except (httpcore2.NetworkError, httpcore2.ProtocolError) as error:
        raise TokenUnavailableError(f"the token server cannot be reached: {error}"[:200]) from error
    return _read(status, bytes(body))


def _read(status: int, body: bytes) -> AccessToken:
    """Return the token in an answer (RFC 6749, 5.1 and 5.2)."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    answer: dict[str, Any] = found if isinstance(found, dict) else {}
    text, seconds = answer.get("access_token"), answer.get("expires_in", _USUAL_LIFE)
    if status != 200:  # noqa: PLR2004 - the one status of success
        words = " ".join(str(answer[key]) for key in ("error", "error_description") if key in answer)
        refused = status in {400, 401, 403}
        raise TokenUnavailableError(f"the token server said {status} {words}"[:300].strip(), refused=refused)
    usable = isinstance(text, str) and 0 < len(text) <= _MAX_TOKEN and text.isascii() and text.isprintable()
    if not usable or not isinstance(text, str):
        raise TokenUnavailableError("the token server's answer has no usable token")
    try:
        seconds = float(seconds)
    except (TypeError, ValueError):
        seconds = _USUAL_LIFE
    return AccessToken(text, min(max(seconds, 1.0), 86_400.0))
