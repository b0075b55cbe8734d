"""Hypercorn's configuration, made from our limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypercorn.config import Config

if TYPE_CHECKING:
    from regsvc.http.server.limits import Limits
    from regsvc.http.server.reporter import Reporter


class ServerConfig(Config):
    """What Hypercorn's parts ask for.

    Args:
        limits: ours.
        reporter: who is told of requests and errors.
    """

    include_server_header = False
    startup_timeout = 10.0
    shutdown_timeout = 2.0

    def __init__(self, limits: Limits, reporter: Reporter) -> None:
        self.limits = limits
        self.reporter = reporter
        self.h11_max_incomplete_size = limits.header_bytes
        self.websocket_max_message_size = limits.websocket_message

    @property
    def log(self) -> Reporter:
        """The logger that Hypercorn's parts use."""
        return self.reporter
