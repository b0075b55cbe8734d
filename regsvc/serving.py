"""The HTTP server of a process, with all that it answers from.

Imported only by a process that serves: the web framework weighs 20 MB.
"""

from __future__ import annotations

from functools import partial

from regsvc.http.app import PREFIX, create_app
from regsvc.http.context import Context
from regsvc.http.feedback.sources import MOST_BYTES
from regsvc.http.request_log import list_routes, note_request
from regsvc.http.server.peers import LOOPBACK
from regsvc.http.server.server import Limits, Server
from regsvc.parts import Parts
from regsvc.security.signing.key_rings import KeyRings


def make_server(parts: Parts) -> Server:
    """Return the server of the API and the pages."""
    settings = parts.settings
    context = Context(
        settings=settings,
        secrets=parts.secrets,
        pool=parts.http_pool,
        lane=parts.lane,
        hub=parts.hub,
        readiness=parts.readiness,
        key_rings=KeyRings(parts.http_pool, parts.secrets, settings.public_url, settings.token_alg),
        stopping=parts.stopping,
        children=parts.children,
        restart=parts.restart,
        dev=parts.dev,
        member=parts.member,
    )
    app = create_app(context)
    return Server(
        app,
        hosts=settings.http_host,
        port=settings.http_port,
        handed=None if parts.member is None else parts.member.handed,
        limits=Limits(
            keep_alive=settings.http_idle_seconds,
            larger_bodies=((f"{PREFIX}/feedback/".encode(), MOST_BYTES),),
        ),
        spared=(*LOOPBACK, *settings.trusted_proxies),
        stopping=parts.stopping,
        lame_duck=parts.lame_duck,
        on_request=partial(note_request, routes=list_routes(app)),
    )
