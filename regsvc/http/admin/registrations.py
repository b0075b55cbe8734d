"""Registrations as administrators see them, and confirming one by hand."""

from __future__ import annotations

from typing import Annotated

import structlog
from pydantic import BeforeValidator, Field
from quart import Blueprint, Response
from typing_extensions import TypedDict  # pydantic reads this one alone before Python 3.12

from regsvc.accounts.admin import registration_search
from regsvc.accounts.admin.cursor import Position
from regsvc.accounts.admin.registration_search import Entry
from regsvc.accounts.admin.user_search import get_person
from regsvc.accounts.registrations.activation import AddressTakenError, enrol_by_hand
from regsvc.accounts.registrations.registration import RegistrationNotFoundError, RegistrationOverError, State
from regsvc.errors import DatabaseUnavailableError, ValidationFailedError
from regsvc.http.admin.users import UserShown, show_user
from regsvc.http.context import get_context
from regsvc.http.openapi.operation import Id, Parameter, Timestamp, documented
from regsvc.http.request.actor import by_admin
from regsvc.http.request.admin_authentication import authenticate_admin
from regsvc.http.request.body import Body, EmailText, address_of, read_id, read_query
from regsvc.http.response.errors import ForbiddenError
from regsvc.http.response.json_response import answer, timestamp

log = structlog.get_logger()
blueprint = Blueprint("admin_registrations", __name__)

PAGE = 50  # registrations, if nobody says how many


class RegistrationQuery(Body):
    """Which registrations to list."""

    state: State | None = None
    address: EmailText | None = None
    cursor: Annotated[Position, BeforeValidator(Position.decode)] | None = None
    limit: Annotated[int, Field(ge=1, le=registration_search.MAX_PAGE)] = PAGE


class EntryShown(TypedDict):
    """A registration, whose it is, and how it stands."""

    id: Id
    address: Annotated[str | None, Field(description="Null if whose it was is erased.")]
    name: str | None
    state: State
    attempts: Annotated[int, Field(description="How often its mail was taken to the mail server.")]
    next_try_at: Timestamp | None
    reason: str | None
    origin: Annotated[str, Field(description="The network prefix that it came from.")]
    client: Annotated[str, Field(description="The software that it came from, in our own words.")]
    created_at: Timestamp
    changed_at: Timestamp
    expires_at: Timestamp | None


class RegistrationPage(TypedDict):
    """Some registrations, the newest first."""

    registrations: list[EntryShown]
    next_cursor: Annotated[str | None, Field(description="The `cursor` of the next page, if there is one.")]


_FILTERS = [
    Parameter("state", "As it is shown to whoever waits.", where="query"),
    Parameter("address", "Whole.", where="query"),
    Parameter("cursor", "The `next_cursor` of the page before.", where="query"),
    Parameter(
        "limit",
        f"How many, 1 to {registration_search.MAX_PAGE}; {PAGE} if not given.",
        where="query",
        whole_number=True,
    ),
]
_ANY = [ForbiddenError, DatabaseUnavailableError]


@blueprint.get("/admin/registrations")
@documented(
    {200: RegistrationPage}, parameters=_FILTERS, needs_token=True, errors=[ValidationFailedError, *_ANY]
)
async def list_registrations() -> Response:
    """List registrations, the newest first."""
    context = get_context()
    token = await authenticate_admin(context)
    query = read_query(RegistrationQuery)
    async with context.pool.connection() as conn:
        page = await registration_search.list_registrations(
            conn,
            state=query.state,
            email_key=address_of(query.address).key if query.address else None,
            after=query.cursor,
            limit=query.limit,
        )
    log.info("registrations listed", actor=str(token.user_id), count=len(page.entries))
    shown: RegistrationPage = {
        "registrations": [_show_entry(entry) for entry in page.entries],
        "next_cursor": page.next.encode() if page.next else None,
    }
    return answer(shown)


@blueprint.get("/admin/registrations/<registration_id>")
@documented({200: EntryShown}, needs_token=True, errors=[RegistrationNotFoundError, *_ANY])
async def show(registration_id: str) -> Response:
    """Show a registration."""
    context = get_context()
    token = await authenticate_admin(context)
    async with context.pool.connection() as conn:
        entry = await registration_search.get_entry(conn, read_id(registration_id, RegistrationNotFoundError))
    log.info("registration shown", actor=str(token.user_id), registration=str(entry.id))
    return answer(_show_entry(entry))


@blueprint.post("/admin/registrations/<registration_id>/confirm")
@documented(
    {200: UserShown},
    needs_token=True,
    errors=[RegistrationNotFoundError, RegistrationOverError, AddressTakenError, *_ANY],
)
async def confirm(registration_id: str) -> Response:
    """Make a registration a user, whose address was proved in another way; its own password is theirs."""
    context = get_context()
    token = await authenticate_admin(context)
    wanted = read_id(registration_id, RegistrationNotFoundError)
    async with context.pool.transaction() as conn:
        person = await get_person(conn, await enrol_by_hand(conn, wanted, by_admin(token)))
    log.info("address confirmed", actor=str(token.user_id), registration=str(wanted), by="hand")
    return answer(show_user(person))


def _show_entry(entry: Entry) -> EntryShown:
    return {
        "id": str(entry.id),
        "address": entry.email,
        "name": entry.name,
        "state": entry.state,
        "attempts": entry.attempts,
        "next_try_at": timestamp(entry.next_try_at),
        "reason": entry.reason,
        "origin": entry.origin,
        "client": entry.client,
        "created_at": timestamp(entry.created_at),
        "changed_at": timestamp(entry.changed_at),
        "expires_at": timestamp(entry.expires_at),
    }
