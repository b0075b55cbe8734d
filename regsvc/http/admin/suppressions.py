"""Suppressed addresses by hand: an administrator lists and lifts them."""

from __future__ import annotations

import structlog
from quart import Blueprint, Response

from regsvc.accounts.deliveries import suppression
from regsvc.accounts.deliveries.suppression import Suppression, SuppressionNotFoundError
from regsvc.http.context import get_context
from regsvc.http.openapi.operation import documented
from regsvc.http.request.body import read_id
from regsvc.http.request.operators import authenticate_operator
from regsvc.http.response.json_response import answer, empty
from regsvc.schemas.formats import Nothing
from regsvc.schemas.rows import describe_row, show_row
from regsvc.schemas.typed_dict import TypedDict

log = structlog.get_logger()
blueprint = Blueprint("admin_suppressions", __name__)

MOST = 200
SuppressionShown = describe_row(Suppression, "SuppressionShown")


class Suppressions(TypedDict):
    """The suppressed addresses that changed last."""

    suppressions: list[SuppressionShown]  # type: ignore[valid-type]


@blueprint.get("/admin/suppressions")
@documented({200: Suppressions}, needs_admin=True, scope="suppressions:read")
async def list_suppressions() -> Response:
    """List the 200 suppressed addresses that changed last. Only a MAC of each address is stored."""
    context = get_context()
    operator = await authenticate_operator(context)
    async with context.pool.connection() as conn:
        found = await suppression.list_suppressions(conn, MOST)
    log.info("suppressions listed", actor=str(operator.id), count=len(found))
    return answer({"suppressions": [show_row(each) for each in found]})


@blueprint.delete("/admin/suppressions/<suppression_id>")
@documented({204: Nothing}, needs_admin=True, scope="suppressions:write", errors=[SuppressionNotFoundError])
async def lift(suppression_id: str) -> Response:
    """Let sign-up mail to a suppressed address through again."""
    context = get_context()
    operator = await authenticate_operator(context)
    wanted = read_id(suppression_id, SuppressionNotFoundError)
    async with context.pool.transaction() as conn:
        await suppression.lift_suppression(conn, wanted, operator.by())
    log.info("suppression lifted", actor=str(operator.id))
    return empty()
