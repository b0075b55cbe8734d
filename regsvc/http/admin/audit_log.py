"""The audit log as administrators see it."""

from __future__ import annotations

import structlog
from quart import Blueprint, Response

from regsvc.accounts.audit import event_search
from regsvc.accounts.audit.event_search import Filters
from regsvc.http.context import get_context
from regsvc.http.openapi.operation import Parameter, documented, paged
from regsvc.http.request.body import read_query
from regsvc.http.request.operators import authenticate_operator
from regsvc.http.response.json_response import answer
from regsvc.schemas.audit_events import AuditQuery, EventPage
from regsvc.schemas.rows import show_page

log = structlog.get_logger()
blueprint = Blueprint("admin_audit", __name__)


_FILTERS = [
    Parameter("event", "Its word, such as `login_failed`.", where="query"),
    Parameter("user", "The id of the user that it is about.", where="query"),
    Parameter(
        "actor", "`user`, `admin`, `operator`, `service_token`, `anonymous` or `service`.", where="query"
    ),
    Parameter("actor_id", "The id of the user or administrator who did it.", where="query"),
    Parameter("request_id", "Of the request or command that did it.", where="query"),
    Parameter("since", "RFC 3339: not before this.", where="query"),
    Parameter("until", "RFC 3339: before this.", where="query"),
    *paged(),
]


@blueprint.get("/admin/audit")
@documented({200: EventPage}, parameters=_FILTERS, query=AuditQuery, needs_admin=True, scope="audit:read")
async def list_events() -> Response:
    """List events of the audit log, the newest first."""
    context = get_context()
    operator = await authenticate_operator(context)
    query = read_query(AuditQuery)
    filters = Filters(
        query.event, query.user, query.actor, query.actor_id, query.request_id, query.since, query.until
    )
    async with context.pool.connection() as conn:
        page = await event_search.list_events(conn, filters, after=query.cursor, limit=query.limit)
    log.info("audit events listed", actor=str(operator.id), count=len(page.rows))
    return answer(show_page(page, "events"))
