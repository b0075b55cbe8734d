"""`regsvc watch`: follows a registration over the websocket, as a waiting tab does."""

from __future__ import annotations

import json
from collections.abc import Callable
from urllib.parse import urlsplit, urlunsplit

import trio
from trio_websocket import ConnectionClosed, ConnectionRejected, HandshakeError, open_websocket_url

from regsvc.errors import ConfigurationError, RegsvcError

FINAL = frozenset({"confirmed", "expired", "repudiated"})
_VERDICTS = {  # by close code
    1000: "there is no such registration any more",  # since no state before was final
    4401: "there is no such registration, or the handle is not its own",
    4429: "it is watched too often at the moment",
}
_SERVER_ERROR = 500  # from here on it is the service, or a proxy in front of it, that is in trouble
_RETRIES = (0.5, 1.0, 2.0, 4.0, 8.0)  # seconds before each new try while the service is away
_SCHEMES = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}


class WatchError(RegsvcError):
    """The registration cannot be watched."""


async def watch_registration(url: str, handle: str, show: Callable[[str], None]) -> None:
    """Show every change of a registration, one line each, until its state is final.

    A connection that breaks is made again; since every first frame is the truth, nothing is missed.

    Args:
        url: of the registration.
        handle: opens it.
        show: is given the lines.

    Raises:
        ConfigurationError: the URL is none.
        WatchError: it is gone, the handle does not open it, or the service stays away.
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
            trouble = error  # kept, which `error` itself is not
            if (verdict := _find_verdict(error)) is not None:
                raise WatchError(verdict) from error
        failures = 0 if seen > before else failures
        if failures == len(_RETRIES):
            raise WatchError("the service cannot be reached") from trouble
        await trio.sleep(_RETRIES[failures])
        failures += 1


def _find_verdict(error: Exception) -> str | None:
    """Return why there is no point in connecting again, or None when there is."""
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
    details = [f"{name} {frame[name]}" for name in ("reason", "next_try_at") if frame.get(name)]
    return "  ".join([str(frame["at"]), str(frame["state"]), *details])
