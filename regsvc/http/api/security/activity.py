"""What happened to one's own account lately."""

from __future__ import annotations

import structlog
from quart import Blueprint, Response

from regsvc.accounts.audit.activity import Activity, list_activity
from regsvc.http.context import get_context
from regsvc.http.openapi.operation import documented, paged
from regsvc.http.request.authentication import authenticate
from regsvc.http.request.body import read_query
from regsvc.http.response.json_response import answer
from regsvc.schemas.fields import PAGE, Body, Limit, NumberCursor
from regsvc.schemas.rows import describe_page, describe_row, show_page

log = structlog.get_logger()
blueprint = Blueprint("activity", __name__)


class ActivityQuery(Body):
    """Which events to list."""

    cursor: NumberCursor | None = None
    limit: Limit = PAGE


ActivityShown = describe_row(Activity, "ActivityShown")
ActivityPage = describe_page("ActivityPage", "events", ActivityShown)
_QUERY = paged()


@blueprint.get("/me/activity")
@documented({200: ActivityPage}, parameters=_QUERY, query=ActivityQuery, needs_token=True)
async def list_mine() -> Response:
    """List what happened to one's own account: logins, failed ones too, and changes, the newest first.

    Events are kept for 400 days. Those caused by administrators say so, and not from where.
    """
    context = get_context()
    token = await authenticate(context)
    query = read_query(ActivityQuery)
    async with context.pool.connection() as conn:
        page = await list_activity(conn, token.user_id, after=query.cursor, limit=query.limit)
    return answer(show_page(page, "events"))
