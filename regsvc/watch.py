"""`regsvc watch`: follow a registration over the websocket, as a waiting browser tab does."""

from __future__ import annotations

import json
from collections.abc import Callable
from urllib.parse import urlsplit, urlunsplit

import trio
from trio_websocket import ConnectionClosed, ConnectionRejected, HandshakeError, open_websocket_url

from regsvc.errors import ConfigurationError, RegsvcError

FINAL = frozenset({"confirmed", "expired", "repudiated"})
_VERDICTS = {  # by close code
    1000: "this registration no longer exists",  # since no state before was final
    4401: "no such registration, or the handle does not belong to it",
    4429: "this registration is watched too often; try again later",
}
_SERVER_ERROR = 500  # from here on the service, or a proxy in front of it, fails
_RETRIES = (0.5, 1.0, 2.0, 4.0, 8.0)  # seconds before each attempt to reconnect
_SCHEMES = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}


class WatchError(RegsvcError):
    """The registration cannot be watched."""


async def watch_registration(url: str, handle: str, show: Callable[[str], None]) -> None:
    """Show every change of a registration, one line each, until its state is final.

    A lost connection is reopened. The first frame always carries the current state, so nothing is missed.

    Args:
        url: of the registration.
        handle: the secret that opens it.
        show: called with each line.

    Raises:
        ConfigurationError: the URL is not that of a registration.
        WatchError: the registration is gone, the handle does not open it, or the service is unavailable.
    """
    target = _live_url(url)
    seen = 0
    failures = 0
    while True:
        before = seen
        try:
            async with open_websocket_url(target, disconnect_timeout=1) as socket:
                await socket.send_message(json.dumps({"handle": handle}))
                while True:
                    frame = json.loads(await socket.get_message())
                    if frame["seq"] > seen:
                        seen = frame["seq"]
                        show(_line(frame))
                    if frame["state"] in FINAL:
                        return
        except (ConnectionClosed, HandshakeError, OSError) as error:
            trouble = error  # Python deletes `error` at the end of the block
            if (verdict := _find_verdict(error)) is not None:
                raise WatchError(verdict) from error
        failures = 0 if seen > before else failures
        if failures == len(_RETRIES):
            raise WatchError("the service cannot be reached") from trouble
        await trio.sleep(_RETRIES[failures])
        failures += 1


def _find_verdict(error: Exception) -> str | None:
    """Return why a reconnection is pointless, or None if it may succeed."""
    if isinstance(error, ConnectionRejected) and error.status_code < _SERVER_ERROR:
        return f"the service answered {error.status_code}"
    if isinstance(error, ConnectionClosed) and error.reason is not None:
        return _VERDICTS.get(error.reason.code)
    return None


def _live_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES or not parts.netloc or "/registrations/" not in parts.path:
        raise ConfigurationError("a registration's URL looks like http://HOST/api/v1/registrations/ID")
    path = parts.path.rstrip("/")
    return urlunsplit(
        (_SCHEMES[parts.scheme], parts.netloc, path if path.endswith("/live") else f"{path}/live", "", "")
    )


def _line(frame: dict[str, object]) -> str:
    details = [
        f"{name} {frame[name]}" for name in ("reason", "next_try_at", "delivered_at") if frame.get(name)
    ]
    if isinstance(bounce := frame.get("bounce"), dict):
        details.append(f"bounce {bounce.get('kind')}")
    return "  ".join([str(frame["at"]), str(frame["state"]), *details])
