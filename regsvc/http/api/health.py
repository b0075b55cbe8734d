"""Liveness, readiness and metrics of the process, and its public signing keys."""

from __future__ import annotations

from http import HTTPStatus

from quart import Blueprint, Response

from regsvc.http.context import get_context
from regsvc.http.health.standing import (
    METRICS_TYPE,
    Alive,
    Readiness,
    may_see_details,
    read_metrics,
    read_readiness,
)
from regsvc.http.openapi.operation import documented
from regsvc.http.request.client import get_client
from regsvc.http.response.errors import ClientNotAllowedError
from regsvc.http.response.json_response import answer
from regsvc.schemas.formats import Text
from regsvc.schemas.typed_dict import TypedDict
from regsvc.security.signing.access_token import SealError

blueprint = Blueprint("health", __name__)


class JsonWebKeys(TypedDict):
    """The public halves of the signing keys (RFC 7517)."""

    keys: list[dict[str, str]]


@blueprint.get("/healthz")
@documented({200: Alive}, needs_database=False)
async def healthz() -> Response:
    """Answer 200 while the process lives."""
    return answer({"status": "ok"})


@blueprint.get("/readyz")
@documented({200: Readiness, 503: Readiness}, needs_database=False)
async def readyz() -> Response:
    """Answer whether this process should be sent requests.

    Only what makes every request fail is 503: a database that is out of reach, takes no writes, or has a schema that
    this program does not run on. A broker or mail server that is away, a child that is being restarted, and more
    requests than connections to the database are `degraded`: sign-ups are taken all the same.
    """
    process = get_context().process
    body = await read_readiness(process, details=may_see_details(process, get_client()))
    if body["status"] == "unavailable":
        return answer(body, HTTPStatus.SERVICE_UNAVAILABLE, {"Retry-After": "2"})
    return answer(body)


@blueprint.get("/metrics")
@documented({200: Text}, errors=[ClientNotAllowedError], needs_database=False)
async def metrics() -> Response:
    """Serve the metrics in Prometheus' text format, to the networks that may read them."""
    process = get_context().process
    if not may_see_details(process, get_client()):
        raise ClientNotAllowedError
    return Response(
        await read_metrics(process), content_type=METRICS_TYPE, headers={"Cache-Control": "no-store"}
    )


@blueprint.get("/.well-known/jwks.json")
@documented({200: JsonWebKeys}, errors=[SealError])
async def jwks() -> Response:
    """Serve the public halves of the signing keys (RFC 7517). They may be cached for 10 minutes."""
    ring = await get_context().key_rings.current()
    return answer(ring.jwks(), headers={"Cache-Control": "public, max-age=600"})
