"""The console's list of suppressed addresses, and lifting them."""

from __future__ import annotations

from datetime import UTC, datetime

import structlog
from quart import Response

from regsvc.accounts.admin import suppression_search
from regsvc.accounts.deliveries import suppression
from regsvc.accounts.deliveries.suppression import SuppressionNotFoundError
from regsvc.http.context import get_context
from regsvc.http.pages.console.lists import ROWS, link_more, read_filters
from regsvc.http.pages.console.overview import get_operator, show_console
from regsvc.http.pages.forms import lead_to, read_form
from regsvc.http.pages.page import blueprint
from regsvc.http.request.body import read_id
from regsvc.http.request.caller import get_caller
from regsvc.schemas.fields import address_of
from regsvc.schemas.suppressions import SuppressionQuery

log = structlog.get_logger()

_PATH = "/admin/suppressions"


@blueprint.get(_PATH)
async def open_suppressions() -> Response:
    """List suppressed addresses, the last changed first, or look one address up."""
    operator = await get_operator()
    context, query = get_context(), read_filters(SuppressionQuery)
    async with context.pool.connection() as conn:
        if query.address:
            page = await suppression_search.find_by_address(
                conn, context.secrets, address_of(query.address).key
            )
        else:
            page = await suppression_search.list_page(conn, after=query.cursor, limit=ROWS)
    log.info("suppressions listed", actor=str(operator.user_id), count=len(page.rows))
    return await show_console(
        "console_suppressions.html",
        query=query,
        entries=page.rows,
        now=datetime.now(UTC),
        more=link_more(page.next_cursor),
    )


@blueprint.post(f"{_PATH}/<suppression_id>/lift")
async def submit_lifting(suppression_id: str) -> Response:
    """Let sign-up mail to an address through again."""
    await read_form()
    operator, wanted = await get_operator(), read_id(suppression_id, SuppressionNotFoundError)
    async with get_context().pool.transaction() as conn:
        await suppression.lift_suppression(conn, wanted, get_caller().as_admin(operator))
    log.info("suppression lifted", actor=str(operator.user_id))
    return lead_to(_PATH)
