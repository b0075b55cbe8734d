"""The console's invitations: send one, see how its mail stands, revoke it."""

from __future__ import annotations

import structlog
from quart import Response

from regsvc.accounts.invitations import invitation
from regsvc.accounts.invitations.invitation import InvitationNotFoundError
from regsvc.errors import RegsvcError
from regsvc.flows.login.proof import require_proof
from regsvc.flows.rate_limits import INVITE, throttle_actor
from regsvc.flows.signup.invitations import InviteBody, invite
from regsvc.http.context import get_context
from regsvc.http.pages.console.lists import ROWS, link_more, read_filters
from regsvc.http.pages.console.overview import get_operator, show_console
from regsvc.http.pages.console.refusals import explain
from regsvc.http.pages.forms import lead_to, read_form
from regsvc.http.pages.page import blueprint
from regsvc.http.request.body import read_id, read_values
from regsvc.http.request.caller import get_caller
from regsvc.mail.message.languages import list_locales
from regsvc.schemas.fields import address_of
from regsvc.schemas.signup.invitations import InvitationQuery

log = structlog.get_logger()

_PATH = "/admin/invitations"


@blueprint.get(_PATH)
async def open_invitations() -> Response:
    """List invitations, the newest first."""
    await get_operator()
    return await _show()


@blueprint.post(_PATH)
async def submit_invitation() -> Response:
    """Invite an address. The administrator's password is the proof, or what the session proved before."""
    form = await read_form()
    operator = await get_operator()
    context, caller = get_context(), get_caller()
    try:
        body = read_values(
            InviteBody, {"email": form.get("email", ""), "language": form.get("language") or None}
        )
        await require_proof(context, caller, operator, form.get("password") or None)
        await throttle_actor(context, caller, operator.user_id, INVITE)
        async with context.pool.transaction() as conn:
            await invite(conn, context.settings, body, caller.locale, caller.as_admin(operator))
    except RegsvcError as error:
        status, problem = explain(error)
        return await _show(status, problem=problem, email=form.get("email", "")[:320])
    return lead_to(_PATH)


@blueprint.post(f"{_PATH}/<invitation_id>/revoke")
async def submit_revocation(invitation_id: str) -> Response:
    """Revoke an invitation."""
    await read_form()
    operator, wanted = await get_operator(), read_id(invitation_id, InvitationNotFoundError)
    try:
        async with get_context().pool.transaction() as conn:
            await invitation.revoke_invitation(conn, wanted, get_caller().as_admin(operator))
    except RegsvcError as error:
        status, problem = explain(error)
        return await _show(status, problem=problem)
    log.info("invitation revoked", actor=str(operator.user_id), invitation=str(wanted))
    return lead_to(_PATH)


async def _show(status: int = 200, *, problem: str = "", email: str = "") -> Response:
    context, query = get_context(), read_filters(InvitationQuery)
    async with context.pool.connection() as conn:
        page = await invitation.list_invitations(
            conn,
            email_key=address_of(query.address).key if query.address else None,
            after=query.cursor,
            limit=ROWS,
        )
    return await show_console(
        "console_invitations.html",
        status,
        invitations=page.rows,
        more=link_more(page.next_cursor),
        problem=problem,
        email=email,
        locale=get_caller().locale,
        locales=list_locales(context.settings.templates),
    )
