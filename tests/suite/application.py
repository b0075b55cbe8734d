"""The application by itself, to ask it for its own description: nothing is connected to anything."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from quart_trio import QuartTrio

from regsvc.config import loading
from regsvc.http.app import create_app
from regsvc.http.context import Context
from regsvc.parts import open_parts
from regsvc.security.signing.key_rings import KeyRings
from regsvc.supervisor import SupervisorStatistics

SECRET = "an application that serves no one, asked about itself"


@asynccontextmanager
async def open_application() -> AsyncIterator[QuartTrio]:
    """Yield the application as `regsvc dev` has it, without a server."""
    environ = {"REGSVC_SECRET_KEY": SECRET, "REGSVC_BCRYPT_COST": "10", "REGSVC_SMTP_URL": "maildir:mail"}
    chosen = loading.load(environ, mode="dev")
    no_children = SupervisorStatistics(children=(), stopping=False)
    async with open_parts(chosen, trio.Event(), lambda: no_children, print) as parts:
        yield create_app(
            Context(
                settings=chosen,
                secrets=parts.secrets,
                pool=parts.http_pool,
                lane=parts.lane,
                hub=parts.hub,
                readiness=parts.readiness,
                key_rings=KeyRings(parts.http_pool, parts.secrets, chosen.public_url),
                stopping=parts.stopping,
                children=parts.children,
                restart=parts.restart,
            )
        )
