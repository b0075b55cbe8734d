"""The console's lists: mails, users, and the audit log, and what an operator does about them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar, get_args
from urllib.parse import urlencode
from uuid import UUID

import structlog
from pydantic import BaseModel, ValidationError
from quart import Response, request

from regsvc.accounts.admin import mail_actions, mail_search, user_actions, user_search
from regsvc.accounts.audit import event_search
from regsvc.accounts.audit.record import ACTORS, By
from regsvc.accounts.users.user import UserNotFoundError
from regsvc.errors import RegsvcError
from regsvc.http.context import get_context
from regsvc.http.pages.console.overview import get_operator, show_console
from regsvc.http.pages.console.refusals import explain
from regsvc.http.pages.forms import lead_to, read_form
from regsvc.http.pages.page import blueprint
from regsvc.http.request.body import read_id
from regsvc.http.request.caller import get_caller
from regsvc.postgres.connection import Connection
from regsvc.schemas.audit_events import AuditQuery
from regsvc.schemas.fields import address_of
from regsvc.schemas.mails import MailQuery, read_mail
from regsvc.schemas.users import UserQuery

log = structlog.get_logger()

Query = TypeVar("Query", bound=BaseModel)

_USERS = "/admin/users"
ROWS = 25  # of a list at a time: a page weighs 60 kB at most


_Act = Callable[[Connection, UUID, By], Awaitable[object]]
_MAIL_DEEDS: dict[str, tuple[_Act, str]] = {
    "replay": (mail_actions.replay_mail, "mail replayed"),
    "cancel": (mail_actions.cancel_mail, "mail cancelled"),
}
_USER_DEEDS: dict[str, _Act] = {
    "disable": user_actions.disable_user,
    "enable": user_actions.enable_user,
    "end-sessions": user_actions.end_user_sessions,
}


@blueprint.get("/admin/mails")
async def open_mails() -> Response:
    """List mails, the newest first."""
    await get_operator()
    query = read_filters(MailQuery)
    filters = mail_search.Filters(
        query.state, query.kind, address_of(query.address).key if query.address else None
    )
    async with get_context().pool.connection() as conn:
        page = await mail_search.list_mails(conn, filters, after=query.cursor, limit=min(query.limit, ROWS))
    return await show_console(
        "console_mails.html",
        query=query,
        mails=page.rows,
        states=get_args(mail_search.State),
        kinds=get_args(mail_search.Kind),
        more=link_more(page.next_cursor),
    )


@blueprint.get("/admin/mails/<mail_id>")
async def open_mail_record(mail_id: str) -> Response:
    """Show a mail, and what was tried to send it."""
    await get_operator()
    return await _show_mail(read_id(mail_id, mail_search.MailNotFoundError))


@blueprint.post("/admin/mails/<mail_id>/<deed>")
async def submit_mail_deed(mail_id: str, deed: str) -> Response:
    """Replay a mail, or call it off."""
    await read_form()
    operator, wanted = await get_operator(), read_id(mail_id, mail_search.MailNotFoundError)
    if deed not in _MAIL_DEEDS:
        raise mail_search.MailNotFoundError
    act, event = _MAIL_DEEDS[deed]
    try:
        async with get_context().pool.transaction() as conn:
            await act(conn, wanted, get_caller().as_admin(operator))
    except RegsvcError as error:
        status, problem = explain(error)
        return await _show_mail(wanted, status, problem=problem)
    log.info(event, mail=str(wanted), actor=str(operator.user_id))
    return lead_to(f"/admin/mails/{wanted}")


@blueprint.get("/admin/users")
async def open_users() -> Response:
    """List users, the newest first."""
    await get_operator()
    return await _show_users(request.args)


@blueprint.post("/admin/users/<user_id>/<deed>")
async def submit_user_deed(user_id: str, deed: str) -> Response:
    """Disable or enable a user, or end their sessions."""
    form = await read_form()
    operator, wanted = await get_operator(), read_id(user_id, UserNotFoundError)
    if deed not in _USER_DEEDS:
        raise UserNotFoundError
    try:
        async with get_context().pool.transaction() as conn:
            await _USER_DEEDS[deed](conn, wanted, get_caller().as_admin(operator))
    except RegsvcError as error:
        status, problem = explain(error)
        return await _show_users(form, status, problem=problem)
    log.info("user administered", deed=deed, user=str(wanted), actor=str(operator.user_id))
    return lead_to(f"{_USERS}?{urlencode(_keep(UserQuery, form))}")


@blueprint.get("/admin/audit")
async def open_audit() -> Response:
    """List what happened that matters for security, the newest first."""
    await get_operator()
    query = read_filters(AuditQuery)
    filters = event_search.Filters(
        query.event, query.user, query.actor, query.actor_id, query.request_id, query.since, query.until
    )
    async with get_context().pool.connection() as conn:
        page = await event_search.list_events(conn, filters, after=query.cursor, limit=min(query.limit, ROWS))
    more = link_more(page.next_cursor)
    return await show_console("console_audit.html", query=query, events=page.rows, actors=ACTORS, more=more)


async def _show_mail(wanted: UUID, status: int = 200, *, problem: str = "") -> Response:
    async with get_context().pool.connection() as conn:
        mail = await read_mail(conn, wanted)
    return await show_console("console_mail.html", status, mail=mail, problem=problem)


async def _show_users(given: Mapping[str, str], status: int = 200, *, problem: str = "") -> Response:
    """Show the users that filters find; a form of the list brings them along."""
    query = read_filters(UserQuery, given)
    filters = user_search.Filters(query.search, query.role, query.state)
    async with get_context().pool.connection() as conn:
        page = await user_search.list_people(conn, filters, after=query.cursor, limit=min(query.limit, ROWS))
    kept = _keep(UserQuery, given)
    more = f"{_USERS}?{urlencode({**kept, 'cursor': page.next_cursor})}" if page.next_cursor else ""
    return await show_console(
        "console_users.html",
        status,
        query=query,
        people=page.rows,
        roles=get_args(user_search.Role),
        states=get_args(user_search.Standing),
        more=more,
        problem=problem,
        kept=kept,
    )


def read_filters(model: type[Query], given: Mapping[str, str] | None = None) -> Query:
    """Return the filters of a form; one that makes no sense filters nothing, and neither does an empty one."""
    texts = _keep(model, request.args if given is None else given)
    try:
        return model.model_validate(texts, strict=False)
    except ValidationError as error:
        wrong = {str(item["loc"][0]) for item in error.errors(include_url=False, include_input=False)}
        return model.model_validate(
            {name: text for name, text in texts.items() if name not in wrong}, strict=False
        )


def _keep(model: type[BaseModel], given: Mapping[str, str]) -> dict[str, str]:
    """Return what a query or form says of a list's filters and place."""
    return {name: text for name, text in given.items() if text and name in model.model_fields}


def link_more(cursor: str | None) -> str:
    """Return the address of the next page; empty if there is none."""
    if not cursor:
        return ""
    kept = {name: text for name, text in request.args.items() if text and name != "cursor"}
    return f"{request.path}?{urlencode({**kept, 'cursor': cursor})}"
