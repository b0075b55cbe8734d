"""A receiver of webhooks on this machine, for `regsvc webhooks listen`."""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable
from functools import partial

import trio

from regsvc.accounts.events import webhooks as hooks
from regsvc.commands.runner import by_operator, open_database
from regsvc.config.settings import Settings
from regsvc.parts import make_secrets
from regsvc.webhooks.signature import sign

_MOST = 64 * 1024
_SECONDS = 15.0


async def listen_events(chosen: Settings, port: int, show: Callable[[str], object]) -> None:
    """Add a webhook for this machine, show each event that comes with its signature, and remove it at the end.

    Args:
        chosen: settings.
        port: on 127.0.0.1; 0 takes a free one.
        show: is called with each event, as a line of JSON.
    """
    listeners = await trio.open_tcp_listeners(port, host="127.0.0.1")
    url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/"
    async with open_database(chosen) as conn, conn.transaction():
        webhook_id, secret = await hooks.add_webhook(
            conn, make_secrets(chosen), "listen", url, types=None, by=by_operator()
        )
    show(f"listening on {url}")
    try:
        await trio.serve_listeners(partial(_serve, secret, show), listeners)
    finally:
        with trio.CancelScope(shield=True):
            async with open_database(chosen) as conn, conn.transaction():
                await hooks.end_webhook(conn, webhook_id, "removed", by_operator())


async def _serve(secret: str, show: Callable[[str], object], stream: trio.SocketStream) -> None:
    """Answer one request. What comes is checked as any receiver has to: by its signature."""
    raw = b""
    with trio.move_on_after(_SECONDS):
        try:
            while (head := raw.find(b"\r\n\r\n")) < 0 or len(raw) < head + 4 + _length(raw[:head]):
                more = await stream.receive_some(_MOST)
                raw += more
                if not more or len(raw) > _MOST:
                    return
            body = raw[head + 4 :]
            taken = _is_signed(secret, _headers(raw[:head]), body)
            if taken:
                show(json.dumps(json.loads(body), ensure_ascii=False))
            line = b"204 No Content" if taken else b"401 Unauthorized"
            await stream.send_all(b"HTTP/1.1 " + line + b"\r\nConnection: close\r\n\r\n")
        except (OSError, trio.BrokenResourceError, ValueError):
            return


def _headers(head: bytes) -> dict[str, str]:
    pairs = (line.partition(":") for line in head.decode("latin-1").split("\r\n")[1:])
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def _length(head: bytes) -> int:
    return int(_headers(head).get("content-length", "0"))


def _is_signed(secret: str, headers: dict[str, str], body: bytes) -> bool:
    expected = sign([secret], headers.get("webhook-id", ""), int(headers.get("webhook-timestamp", "0")), body)
    given = headers.get("webhook-signature", "").split()
    return any(hmac.compare_digest(each, expected["webhook-signature"]) for each in given)
