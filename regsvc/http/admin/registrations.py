"""Registrations as administrators see them, and confirming one by hand."""

from __future__ import annotations

import structlog
from quart import Blueprint, Response

from regsvc.accounts.admin import registration_search
from regsvc.accounts.admin.user_search import get_person
from regsvc.accounts.registrations.activation import AddressTakenError, activate_by_hand
from regsvc.accounts.registrations.registration import RegistrationNotFoundError, RegistrationOverError
from regsvc.http.context import get_context
from regsvc.http.openapi.operation import Parameter, documented, paged
from regsvc.http.request.body import read_id, read_query
from regsvc.http.request.operators import authenticate_operator
from regsvc.http.response.json_response import answer
from regsvc.schemas.fields import address_of
from regsvc.schemas.registrations import EntryShown, RegistrationPage, RegistrationQuery
from regsvc.schemas.rows import show_page, show_row
from regsvc.schemas.users import UserShown

log = structlog.get_logger()
blueprint = Blueprint("admin_registrations", __name__)


_FILTERS = [
    Parameter("state", "As it is shown to the clients that wait.", where="query"),
    Parameter("address", "Whole.", where="query"),
    *paged(),
]


@blueprint.get("/admin/registrations")
@documented(
    {200: RegistrationPage},
    parameters=_FILTERS,
    query=RegistrationQuery,
    needs_admin=True,
    scope="registrations:read",
)
async def list_registrations() -> Response:
    """List registrations, the newest first."""
    context = get_context()
    operator = await authenticate_operator(context)
    query = read_query(RegistrationQuery)
    async with context.pool.connection() as conn:
        page = await registration_search.list_registrations(
            conn,
            state=query.state,
            email_key=address_of(query.address).key if query.address else None,
            after=query.cursor,
            limit=query.limit,
        )
    log.info("registrations listed", actor=str(operator.id), count=len(page.rows))
    return answer(show_page(page, "registrations"))


@blueprint.get("/admin/registrations/<registration_id>")
@documented(
    {200: EntryShown}, needs_admin=True, scope="registrations:read", errors=[RegistrationNotFoundError]
)
async def show(registration_id: str) -> Response:
    """Show a registration."""
    context = get_context()
    operator = await authenticate_operator(context)
    async with context.pool.connection() as conn:
        entry = await registration_search.get_entry(conn, read_id(registration_id, RegistrationNotFoundError))
    log.info("registration shown", actor=str(operator.id), registration=str(entry.id))
    return answer(show_row(entry))


@blueprint.post("/admin/registrations/<registration_id>/confirm")
@documented(
    {200: UserShown},
    needs_admin=True,
    scope="registrations:write",
    errors=[RegistrationNotFoundError, RegistrationOverError, AddressTakenError],
)
async def confirm(registration_id: str) -> Response:
    """Make a registration a user, whose address was proved in another way; its own password is theirs."""
    context = get_context()
    operator = await authenticate_operator(context)
    wanted = read_id(registration_id, RegistrationNotFoundError)
    async with context.pool.transaction() as conn:
        person = await get_person(conn, await activate_by_hand(conn, wanted, operator.by()))
    log.info("address confirmed", actor=str(operator.id), registration=str(wanted), by="hand")
    return answer(show_row(person))
