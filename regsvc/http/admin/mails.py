"""Mails by hand: an administrator finds them, looks at them, replays and cancels them."""

from __future__ import annotations

import structlog
from quart import Blueprint, Response

from regsvc.accounts.admin import mail_actions, mail_search
from regsvc.accounts.admin.mail_search import Filters
from regsvc.accounts.registrations.registration import RegistrationOverError
from regsvc.http.context import get_context
from regsvc.http.openapi.operation import Parameter, documented, paged
from regsvc.http.request.body import read_id, read_query
from regsvc.http.request.operators import authenticate_operator
from regsvc.http.response.json_response import answer
from regsvc.schemas.fields import address_of
from regsvc.schemas.mails import MailPage, MailQuery, MailWithAttempts, Replayed, read_mail
from regsvc.schemas.rows import show_page

log = structlog.get_logger()
blueprint = Blueprint("admin_mails", __name__)


_FILTERS = [
    Parameter(
        "state", "`queued`, `sending`, `sent`, `delayed`, `bounced`, `cancelled` or `dead`.", where="query"
    ),
    Parameter("kind", "`signup`, `resend`, `foreign`, `notice`, `forgot` or `email_change`.", where="query"),
    Parameter("address", "Of the recipient, whole.", where="query"),
    *paged(),
]


@blueprint.get("/admin/mails")
@documented({200: MailPage}, parameters=_FILTERS, query=MailQuery, needs_admin=True, scope="mails:read")
async def list_mails() -> Response:
    """List mails, the newest first."""
    context = get_context()
    operator = await authenticate_operator(context)
    query = read_query(MailQuery)
    filters = Filters(query.state, query.kind, address_of(query.address).key if query.address else None)
    async with context.pool.connection() as conn:
        page = await mail_search.list_mails(conn, filters, after=query.cursor, limit=query.limit)
    log.info(
        "mails listed",
        actor=str(operator.id),
        count=len(page.rows),
        **query.model_dump(include=_LOGGED, exclude_none=True),
    )
    return answer(show_page(page, "mails"))


@blueprint.get("/admin/mails/<mail_id>")
@documented(
    {200: MailWithAttempts}, needs_admin=True, scope="mails:read", errors=[mail_search.MailNotFoundError]
)
async def show(mail_id: str) -> Response:
    """Show a mail, and what was tried to send it."""
    context = get_context()
    operator = await authenticate_operator(context)
    async with context.pool.connection() as conn:
        shown = await read_mail(conn, read_id(mail_id, mail_search.MailNotFoundError))
    log.info("mail shown", mail=shown["id"], actor=str(operator.id))
    return answer(shown)


@blueprint.post("/admin/mails/<mail_id>/replay")
@documented(
    {200: MailWithAttempts},
    needs_admin=True,
    scope="mails:write",
    errors=[mail_search.MailNotFoundError, mail_actions.MailInHandError, RegistrationOverError],
)
async def replay(mail_id: str) -> Response:
    """Send a mail again, or at last: a new life of 48 hours from now, whatever became of it before."""
    context = get_context()
    operator = await authenticate_operator(context)
    wanted = read_id(mail_id, mail_search.MailNotFoundError)
    async with context.pool.transaction() as conn:
        await mail_actions.replay_mail(conn, wanted, operator.by())
        shown = await read_mail(conn, wanted)
    log.info("mail replayed", mail=shown["id"], actor=str(operator.id))
    return answer(shown)


@blueprint.post("/admin/mails/<mail_id>/cancel")
@documented(
    {200: MailWithAttempts},
    needs_admin=True,
    scope="mails:write",
    errors=[mail_search.MailNotFoundError, mail_actions.MailInHandError, mail_actions.MailOverError],
)
async def cancel(mail_id: str) -> Response:
    """Cancel a mail that is queued or delayed."""
    context = get_context()
    operator = await authenticate_operator(context)
    wanted = read_id(mail_id, mail_search.MailNotFoundError)
    async with context.pool.transaction() as conn:
        await mail_actions.cancel_mail(conn, wanted, operator.by())
        shown = await read_mail(conn, wanted)
    log.info("mail cancelled", mail=shown["id"], actor=str(operator.id))
    return answer(shown)


@blueprint.post("/admin/mails/replay-dead")
@documented({200: Replayed}, needs_admin=True, scope="mails:write")
async def replay_dead() -> Response:
    """Replay mails that were given up and whose attempt still waits, oldest first, up to 1,000 a call.

    Call it again until it replays none.
    """
    context = get_context()
    operator = await authenticate_operator(context)
    async with context.pool.transaction() as conn:
        count = await mail_actions.replay_dead(conn, mail_actions.DEAD_AT_ONCE, operator.by())
    log.info("dead mails replayed", count=count, actor=str(operator.id))
    shown: Replayed = {"replayed": count}
    return answer(shown)


_LOGGED = {"state", "kind", "address"}
