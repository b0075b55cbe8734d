"""What happened to one's own account lately."""

from __future__ import annotations

from typing import Annotated

import structlog
from pydantic import Field
from quart import Blueprint, Response

from regsvc.accounts.audit.activity import Activity, list_activity
from regsvc.accounts.cursor import MAX_PAGE
from regsvc.http.context import get_context
from regsvc.http.openapi.operation import Parameter, documented
from regsvc.http.request.authentication import authenticate
from regsvc.http.request.body import read_query
from regsvc.http.response.json_response import answer
from regsvc.schemas.fields import Body
from regsvc.schemas.rows import describe_page, describe_row, show_page

log = structlog.get_logger()
blueprint = Blueprint("activity", __name__)

_USUAL = 50
_LARGEST = 2**63 - 1  # that a bigint can be


class ActivityQuery(Body):
    """Which events to list."""

    cursor: Annotated[int, Field(ge=1, le=_LARGEST)] | None = None
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = _USUAL


ActivityShown = describe_row(Activity, "ActivityShown")
ActivityPage = describe_page("ActivityPage", "events", ActivityShown)
_QUERY = [
    Parameter("cursor", "The `next_cursor` of the page before.", where="query"),
    Parameter("limit", f"How many, 1 to {MAX_PAGE}; {_USUAL} if not given.", where="query"),
]


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
