"""Liveness, readiness and metrics of the process."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Literal, NotRequired

import trio
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import Field
from quart import Blueprint, Response
from typing_extensions import TypedDict  # pydantic reads this one alone before Python 3.12

from regsvc.errors import ConfigurationError, DatabaseUnavailableError
from regsvc.http.context import Context, get_context
from regsvc.http.openapi.operation import documented
from regsvc.http.request.client import get_client
from regsvc.http.response.errors import ClientNotAllowedError
from regsvc.http.response.json_response import answer
from regsvc.logs.redaction import redact_text
from regsvc.mail.queue.breaker import get_breaker
from regsvc.mail.queue.verdict import UNKNOWN, Breaker
from regsvc.metrics import BREAKER_OPEN, CONNECTIONS, HASHES, WAITERS
from regsvc.postgres.server import ReadOnlyServerError
from regsvc.schemas.formats import Text, Timestamp, timestamp
from regsvc.security.keys import SealError

blueprint = Blueprint("health", __name__)

_PATIENCE = 1.5  # seconds that the database has to answer


Obstacle = Literal["stopping", "database_unavailable", "database_read_only", "schema_mismatch"]


class Alive(TypedDict):
    """The process lives."""

    status: Literal["ok"]


class ChildShown(TypedDict):
    """How a child of the process does."""

    state: str
    failures: int
    failures_in_a_row: int
    last_error: str | None
    next_try_in: Annotated[float | None, Field(description="Seconds, while it waits to be started again.")]


class BreakerShown(TypedDict):
    """Whether sending is paused, because the mail server refuses us."""

    open: bool
    reason: str | None
    reply: str | None
    opened_at: Timestamp | None


class Readiness(TypedDict):
    """Whether to send requests here; 503 is `unavailable`."""

    status: Literal["ok", "degraded", "unavailable"]
    reason: NotRequired[Annotated[Obstacle, Field(description="Of 503.")]]
    children: NotRequired[Annotated[dict[str, ChildShown], Field(description="For operators' networks.")]]
    mail_breaker: NotRequired[Annotated[BreakerShown, Field(description="For operators' networks.")]]
    forwarding: NotRequired[
        Annotated[
            Literal["ok", "unreadable", "untrusted"],
            Field(
                description="For operators' networks. `unreadable`: a trusted proxy wrote an `X-Forwarded-For` that "
                "names no client, or other forwarding headers without it. `untrusted`: a private address that is not "
                "in `REGSVC_TRUSTED_PROXIES` sent one."
            ),
        ]
    ]


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
    context = get_context()
    obstacle, breaker = await _look(context)
    children = context.children().children
    sound = all(child.state == "running" for child in children) and not breaker.open and not _is_full(context)
    body: Readiness = {"status": "ok" if sound else "degraded"}
    if obstacle is not None:
        body = {"status": "unavailable", "reason": obstacle}
    if _may_see_details(context):
        body["children"] = {
            child.name: {
                "state": child.state,
                "failures": child.failures,
                "failures_in_a_row": child.failures_in_a_row,
                "last_error": child.last_error,
                "next_try_in": None if child.next_try is None else round(child.next_try, 1),
            }
            for child in children
        }
        body["mail_breaker"] = {
            "open": breaker.open,
            "reason": breaker.reason,
            "reply": None if breaker.reply is None else redact_text(breaker.reply),
            "opened_at": timestamp(breaker.opened_at),
        }
        body["forwarding"] = context.forwarding.summary()
    if obstacle is not None:
        return answer(body, HTTPStatus.SERVICE_UNAVAILABLE, {"Retry-After": "2"})
    return answer(body)


@blueprint.get("/metrics")
@documented({200: Text}, errors=[ClientNotAllowedError], needs_database=False)
async def metrics() -> Response:
    """Serve the metrics in Prometheus' text format, to the networks that may read them."""
    if not _may_see_details(get_context()):
        raise ClientNotAllowedError
    _, breaker = await _look(get_context())
    BREAKER_OPEN.set(breaker.open)
    _note_parts(get_context())
    return Response(
        generate_latest(), content_type=CONTENT_TYPE_LATEST, headers={"Cache-Control": "no-store"}
    )


@blueprint.get("/.well-known/jwks.json")
@documented({200: JsonWebKeys}, errors=[SealError])
async def jwks() -> Response:
    """Serve the public halves of the signing keys (RFC 7517). They may be cached for 10 minutes."""
    ring = await get_context().key_rings.current()
    return answer(ring.jwks(), headers={"Cache-Control": "public, max-age=600"})


async def _look(context: Context) -> tuple[Obstacle | None, Breaker]:
    """Return what makes every request fail, if anything does, and how the mail breaker stands."""
    if context.stopping.is_set():
        return "stopping", UNKNOWN
    with trio.move_on_after(_PATIENCE):
        try:
            async with context.readiness.connection() as conn:
                return None, await get_breaker(conn)
        except ReadOnlyServerError:
            return "database_read_only", UNKNOWN
        except DatabaseUnavailableError:
            return "database_unavailable", UNKNOWN
        except ConfigurationError:
            return "schema_mismatch", UNKNOWN
    return "database_unavailable", UNKNOWN


def _is_full(context: Context) -> bool:
    """Return whether requests wait for connections to the database."""
    pool = context.pool.statistics()
    return pool.waiting > 0 and pool.in_use >= pool.size


def _note_parts(context: Context) -> None:
    """Bring the gauges of what requests share up to date."""
    pool, lane = context.pool.statistics(), context.lane.statistics()
    for state, number in (("idle", pool.idle), ("in_use", pool.in_use), ("waiting", pool.waiting)):
        CONNECTIONS.labels(state).set(number)
    for state, number in (("busy", lane.busy), ("waiting", lane.waiting)):
        HASHES.labels(state).set(number)
    WAITERS.set(context.hub.statistics().waiters)


def _may_see_details(context: Context) -> bool:
    """Return whether the client is an operator: strangers behind an unlisted proxy would have its address."""
    client = get_client()
    if client.trouble is not None or client.address is None:
        return False
    return any(client.address in network for network in context.settings.metrics_allow)
