"""What is current while a request or a websocket is worked on, without the proxies of Quart: each look costs."""

from __future__ import annotations

from typing import Any

from quart import Quart
from quart.globals import _cv_app, _cv_request, _cv_websocket
from quart.wrappers import Request, Websocket


def get_app() -> Quart:
    """Return the application of the current request: `current_app`, without its proxy."""
    return _cv_app.get().app


def get_globals() -> Any:
    """Return what belongs to the current request: `g`, without its proxy."""
    return _cv_app.get().g


def get_connection() -> Request | Websocket:
    """Return the current request or websocket, without a proxy."""
    context = _cv_request.get(None)
    return _cv_websocket.get().websocket if context is None else context.request
