"""The children of the process that answers, and starting one of them again."""

from __future__ import annotations

import os
from typing import Annotated, Literal, NotRequired

import structlog
from pydantic import Field
from quart import Blueprint, Response

from regsvc.accounts.audit.record import By, record
from regsvc.http.context import Context, get_context
from regsvc.http.health.standing import ProcessShown, show_processes
from regsvc.http.openapi.operation import documented
from regsvc.http.request.operators import authenticate_operator
from regsvc.http.response.errors import ChildNotFoundError, ServingChildError
from regsvc.http.response.json_response import answer
from regsvc.logs.redaction import redact_text
from regsvc.schemas.formats import Message
from regsvc.schemas.typed_dict import TypedDict
from regsvc.supervisor import ChildStatistics

log = structlog.get_logger()
blueprint = Blueprint("admin_supervisor", __name__)

MYSELF = "http"


class SupervisedShown(TypedDict):
    """How a child does."""

    name: str
    state: Annotated[
        Literal["starting", "running", "waiting", "stopped"],
        Field(description="`waiting` between a failure and the next start."),
    ]
    seconds: Annotated[float, Field(description="For how long it has been in this state.")]
    restarts: int
    failures: int
    failures_in_a_row: int
    last_error: str | None
    next_try_in: Annotated[float | None, Field(description="Seconds, while it waits.")]


class SupervisorShown(TypedDict):
    """The process that answers, and its children. Others have theirs."""

    role: Literal["all", "api", "worker"]
    pid: int
    stopping: bool
    children: list[SupervisedShown]
    processes: NotRequired[
        Annotated[
            dict[str, ProcessShown],
            Field(description="All processes of this machine by number, with `REGSVC_PROCESSES` above 1."),
        ]
    ]


@blueprint.get("/admin/supervisor")
@documented({200: SupervisorShown}, needs_admin=True, scope="supervisor:read")
async def show() -> Response:
    """Show the children of the process that answers. Behind a proxy, ask the process that you mean."""
    context = get_context()
    operator = await authenticate_operator(context)
    log.info("supervisor shown", actor=str(operator.id))
    return answer(show_supervisor(context))


@blueprint.post("/admin/supervisor/<child>/restart")
@documented(
    {202: Message},
    needs_admin=True,
    scope="supervisor:write",
    errors=[ChildNotFoundError, ServingChildError],
)
async def restart(child: str) -> Response:
    """Start a child of the process that answers again, at once; its failures so far are forgotten."""
    context = get_context()
    operator = await authenticate_operator(context)
    await restart_child(context, child, operator.by())
    done: Message = {"message": "child restarted"}
    return answer(done, 202)


async def restart_child(context: Context, child: str, by: By) -> None:
    """Start a child of this process again, at once.

    Raises:
        ChildNotFoundError: there is no such child.
        ServingChildError: it is the one that answers this.
    """
    if child not in {each.name for each in context.children().children}:
        raise ChildNotFoundError
    if child == MYSELF:
        raise ServingChildError
    async with context.pool.connection() as conn:
        await record(conn, "child_restarted", by, child=child, pid=os.getpid())
    context.restart(child)


def show_supervisor(context: Context) -> SupervisorShown:
    """Return this process and its children in words of the API."""
    statistics = context.children()
    shown: SupervisorShown = {
        "role": context.settings.role,
        "pid": os.getpid(),
        "stopping": statistics.stopping,
        "children": [_show_child(child) for child in statistics.children],
    }
    if context.member is not None:
        shown["processes"] = show_processes(context.member.states())
    return shown


def _show_child(child: ChildStatistics) -> SupervisedShown:
    return {
        "name": child.name,
        "state": child.state,
        "seconds": round(child.seconds, 1),
        "restarts": max(0, child.lives - 1),
        "failures": child.failures,
        "failures_in_a_row": child.failures_in_a_row,
        "last_error": None if child.last_error is None else redact_text(child.last_error),
        "next_try_in": None if child.next_try is None else round(child.next_try, 1),
    }
