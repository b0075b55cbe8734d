"""Whether the process lives, whether it is ready, and how its parts are doing."""

from __future__ import annotations

from http import HTTPStatus

import trio
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from quart import Blueprint, Response

from regsvc.errors import DatabaseUnavailableError, SchemaMismatchError
from regsvc.http.answers import answer
from regsvc.http.clients import get_client_address
from regsvc.http.context import Context, get_context
from regsvc.http.events import RequestLine, log_request
from regsvc.metrics import REQUESTS
from regsvc.postgres.migrate import check_schema

blueprint = Blueprint("health", __name__)

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_PATIENCE = 1.5  # seconds that the database has to answer


@blueprint.get("/healthz")
async def healthz() -> Response:
    """Say that the process lives: that it answers is the whole message."""
    return answer({"status": "ok"})


@blueprint.get("/readyz")
async def readyz() -> Response:
    """Say whether to send requests here.

    Only what makes every request fail is 503. A broker or mail server that is away, or a child that is being
    restarted, is `degraded`: sign-ups are taken all the same.
    """
    context = get_context()
    obstacle = await _find_obstacle(context)
    children = context.children().children
    body: dict[str, object] = {
        "status": "ok" if all(child.state == "running" for child in children) else "degraded"
    }
    if obstacle is not None:
        body = {"status": "unavailable", "reason": obstacle}
    if _may_see_details(context):
        body["children"] = {
            child.name: {"state": child.state, "failures": child.failures, "last_error": child.last_error}
            for child in children
        }
    if obstacle is not None:
        return answer(body, HTTPStatus.SERVICE_UNAVAILABLE, {"Retry-After": "2"})
    return answer(body)


@blueprint.get("/metrics")
async def metrics() -> Response:
    """Serve the metrics in Prometheus' text format, to the networks that may read them."""
    if not _may_see_details(get_context()):
        return answer({"detail": "This client may not read the metrics (REGSVC_METRICS_ALLOW)."}, 403)
    return Response(generate_latest(), content_type=CONTENT_TYPE_LATEST)


@blueprint.get("/.well-known/jwks.json")
async def jwks() -> Response:
    """Serve the public halves of the signing keys (RFC 7517)."""
    ring = await get_context().key_rings.current()
    return answer(ring.jwks(), headers={"Cache-Control": "public, max-age=600"})


def note_request(line: RequestLine) -> None:
    """Count and log a request that was answered."""
    REQUESTS.labels(line.method if line.method in _METHODS else "other", str(line.status or "none")).inc()
    log_request(line)


async def _find_obstacle(context: Context) -> str | None:
    if context.stopping.is_set():
        return "stopping"
    with trio.move_on_after(_PATIENCE):
        try:
            async with context.pool.connection() as conn:
                await check_schema(conn)
        except DatabaseUnavailableError:
            return "database_unavailable"
        except SchemaMismatchError:
            return "schema_mismatch"
        return None
    return "database_unavailable"


def _may_see_details(context: Context) -> bool:
    client = get_client_address()
    return client is not None and any(client in net for net in context.settings.metrics_allow)
