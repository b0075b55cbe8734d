"""Readiness and metrics of a process, whichever way they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Annotated, Literal, NotRequired

import trio
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import Field

from regsvc.config.settings import Settings
from regsvc.errors import ConfigurationError, DatabaseUnavailableError
from regsvc.http.request.forwarding import Client, ForwardingTroubles
from regsvc.jobs.claims import count_due, seconds_until_due
from regsvc.live import LiveHub
from regsvc.logs.redaction import redact_text
from regsvc.mail.queue.breaker import get_breaker
from regsvc.mail.queue.jobs import MAIL_JOBS
from regsvc.mail.queue.verdict import UNKNOWN, Breaker
from regsvc.metrics import BREAKER_OPEN, CONNECTIONS, DUE, HASHES, OLDEST_DUE, WAITERS
from regsvc.postgres.pool import Pool
from regsvc.postgres.readiness import Readiness as DatabaseReadiness
from regsvc.postgres.server import ReadOnlyServerError
from regsvc.processes.gathering import render_metrics
from regsvc.processes.member import Member
from regsvc.processes.states import ProcessState
from regsvc.schemas.formats import Timestamp, timestamp
from regsvc.schemas.typed_dict import TypedDict
from regsvc.security.passwords import HashingLane
from regsvc.supervisor import SupervisorStatistics

METRICS_TYPE = CONTENT_TYPE_LATEST

_PATIENCE = 1.5  # seconds that the database has to answer
_MOST_DUE = 10_000  # mails that are counted: a scaler has enough workers long before

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


class ProcessShown(TypedDict):
    """How one of several processes does."""

    state: str
    pid: int | None
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
    processes: NotRequired[
        Annotated[
            dict[str, ProcessShown],
            Field(
                description="For operators' networks, with `REGSVC_PROCESSES` above 1: all of them, by number."
            ),
        ]
    ]
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


@dataclass(frozen=True)
class Process:
    """What the state of a process is read from.

    Args:
        settings: of the process.
        pool: PostgreSQL connections for requests.
        lane: where passwords are hashed.
        hub: who waits for which registration.
        readiness: looks whether the database is ready.
        stopping: set once the process is asked to end.
        children: returns the state of its children.
        forwarding: what was wrong with forwarding headers so far.
        member: the process among its siblings, if there are several.
    """

    settings: Settings
    pool: Pool
    lane: HashingLane
    hub: LiveHub
    readiness: DatabaseReadiness
    stopping: trio.Event
    children: Callable[[], SupervisorStatistics]
    forwarding: ForwardingTroubles = field(default_factory=ForwardingTroubles)
    member: Member | None = None


def may_see_details(process: Process, client: Client) -> bool:
    """Return whether a client is an operator: strangers behind an unlisted proxy would have its address."""
    if client.trouble is not None or client.address is None:
        return False
    return any(client.address in network for network in process.settings.metrics_allow)


async def read_readiness(process: Process, *, details: bool) -> Readiness:
    """Return whether a process should be sent requests.

    Args:
        process: the one that is asked.
        details: whether the client may see its children.
    """
    obstacle, breaker = await _look(process)
    children = process.children().children
    siblings = [] if process.member is None else process.member.states()
    states = [*(child.state for child in children), *(sibling.state for sibling in siblings)]
    sound = set(states) <= {"running"} and not breaker.open and not _is_full(process)
    body: Readiness = {"status": "ok" if sound else "degraded"}
    if obstacle is not None:
        body = {"status": "unavailable", "reason": obstacle}
    if details:
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
        if siblings:
            body["processes"] = show_processes(siblings)
        body["mail_breaker"] = {
            "open": breaker.open,
            "reason": breaker.reason,
            "reply": None if breaker.reply is None else redact_text(breaker.reply),
            "opened_at": timestamp(breaker.opened_at),
        }
        body["forwarding"] = process.forwarding.summary()
    return body


def show_processes(states: Sequence[ProcessState]) -> dict[str, ProcessShown]:
    """Return several processes in words of the API, by number."""
    return {
        str(state.number): {
            "state": state.state,
            "pid": state.pid,
            "failures": state.failures,
            "failures_in_a_row": state.failures_in_a_row,
            "last_error": state.last_error,
            "next_try_in": None if state.next_try is None else round(state.next_try, 1),
        }
        for state in states
    }


async def read_metrics(process: Process) -> bytes:
    """Return the metrics of a process in Prometheus' text format, and those of its siblings with them."""
    _, breaker = await _look(process)
    BREAKER_OPEN.set(breaker.open)
    pool, lane = process.pool.statistics(), process.lane.statistics()
    for state, number in (("idle", pool.idle), ("in_use", pool.in_use), ("waiting", pool.waiting)):
        CONNECTIONS.labels(state).set(number)
    for state, number in (("busy", lane.busy), ("waiting", lane.waiting)):
        HASHES.labels(state).set(number)
    with suppress(DatabaseUnavailableError, ReadOnlyServerError), trio.move_on_after(_PATIENCE):
        async with process.readiness.connection() as conn:
            OLDEST_DUE.set(max(0.0, -(await seconds_until_due(conn, MAIL_JOBS) or 0.0)))
            DUE.set(await count_due(conn, MAIL_JOBS, at_most=_MOST_DUE))
    WAITERS.set(process.hub.statistics().waiters)
    member = process.member
    if member is None:
        return generate_latest()
    return render_metrics(member.number, await member.gather_metrics())


async def _look(process: Process) -> tuple[Obstacle | None, Breaker]:
    """Return what makes every request fail, if anything does, and how the mail breaker stands."""
    if process.stopping.is_set():
        return "stopping", UNKNOWN
    with trio.move_on_after(_PATIENCE):
        try:
            async with process.readiness.connection() as conn:
                return None, await get_breaker(conn)
        except ReadOnlyServerError:
            return "database_read_only", UNKNOWN
        except DatabaseUnavailableError:
            return "database_unavailable", UNKNOWN
        except ConfigurationError:
            return "schema_mismatch", UNKNOWN
    return "database_unavailable", UNKNOWN


def _is_full(process: Process) -> bool:
    """Return whether requests wait for connections to the database."""
    pool = process.pool.statistics()
    return pool.waiting > 0 and pool.in_use >= pool.size
