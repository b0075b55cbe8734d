"""Invitations: send, list and revoke them. The link is in the mail alone."""

from __future__ import annotations

from uuid import UUID

import structlog
from quart import Blueprint, Response

from regsvc.accounts.invitations import invitation
from regsvc.accounts.invitations.invitation import InvitationNotFoundError, InvitationOverError
from regsvc.accounts.limits.rate_limit import RateLimitedError
from regsvc.accounts.sessions.proof import ProofNeededError
from regsvc.flows.login.proof import require_proof
from regsvc.flows.rate_limits import INVITE, throttle_actor
from regsvc.flows.signup.invitations import InviteBody, invite
from regsvc.flows.signup.policy import DomainNotAllowedError, SignupClosedError
from regsvc.http.context import Context, get_context
from regsvc.http.openapi.operation import Parameter, documented, paged
from regsvc.http.request.body import read_body, read_id, read_query
from regsvc.http.request.caller import get_caller
from regsvc.http.request.operators import Operator, authenticate_operator
from regsvc.http.response.json_response import answer, empty
from regsvc.schemas.fields import address_of
from regsvc.schemas.formats import Nothing
from regsvc.schemas.rows import show_page, show_row
from regsvc.schemas.signup.invitations import InvitationPage, InvitationQuery, InvitationShown

log = structlog.get_logger()
blueprint = Blueprint("admin_invitations", __name__)

_FILTERS = [
    Parameter("address", "Whole.", where="query"),
    *paged(),
]


@blueprint.post("/admin/invitations")
@documented(
    {201: InvitationShown},
    body=InviteBody,
    headers={"Location": "Path of the invitation."},
    needs_admin=True,
    scope="invitations:write",
    errors=[ProofNeededError, SignupClosedError, DomainNotAllowedError, RateLimitedError],
)
async def send() -> Response:
    """Invite an address to create an account, with the role `user`.

    The mail has a link that works once, for seven days, for exactly this address. No answer has the link. An earlier
    invitation of the address that is still open is revoked. If the address has an account, its owner is told so by
    mail, and the invitation looks like any other. An administrator has to prove to be there (`POST /api/v1/me/proof`).
    """
    context = get_context()
    operator = await authenticate_operator(context)
    body = await read_body(InviteBody)
    made = await _invite(context, operator, body)
    async with context.pool.connection() as conn:
        shown = await invitation.get_invitation(conn, made)
    return answer(show_row(shown), 201, {"Location": f"/api/v1/admin/invitations/{made}"})


@blueprint.get("/admin/invitations")
@documented(
    {200: InvitationPage},
    parameters=_FILTERS,
    query=InvitationQuery,
    needs_admin=True,
    scope="invitations:read",
)
async def list_invitations() -> Response:
    """List invitations, the newest first."""
    context = get_context()
    operator = await authenticate_operator(context)
    query = read_query(InvitationQuery)
    async with context.pool.connection() as conn:
        page = await invitation.list_invitations(
            conn,
            email_key=address_of(query.address).key if query.address else None,
            after=query.cursor,
            limit=query.limit,
        )
    log.info("invitations listed", actor=str(operator.id), count=len(page.rows))
    return answer(show_page(page, "invitations"))


@blueprint.get("/admin/invitations/<invitation_id>")
@documented(
    {200: InvitationShown}, needs_admin=True, scope="invitations:read", errors=[InvitationNotFoundError]
)
async def show(invitation_id: str) -> Response:
    """Show an invitation: how its mail stands, and what became of it."""
    context = get_context()
    operator = await authenticate_operator(context)
    async with context.pool.connection() as conn:
        found = await invitation.get_invitation(conn, read_id(invitation_id, InvitationNotFoundError))
    log.info("invitation shown", actor=str(operator.id), invitation=str(found.id))
    return answer(show_row(found))


@blueprint.delete("/admin/invitations/<invitation_id>")
@documented(
    {204: Nothing},
    needs_admin=True,
    scope="invitations:write",
    errors=[InvitationNotFoundError, InvitationOverError],
)
async def revoke(invitation_id: str) -> Response:
    """Revoke an invitation: its link works no more."""
    context = get_context()
    operator = await authenticate_operator(context)
    wanted = read_id(invitation_id, InvitationNotFoundError)
    async with context.pool.transaction() as conn:
        await invitation.revoke_invitation(conn, wanted, operator.by())
    log.info("invitation revoked", actor=str(operator.id), invitation=str(wanted))
    return empty()


async def _invite(context: Context, operator: Operator, body: InviteBody) -> UUID:
    caller = get_caller()
    if operator.token is not None:
        await require_proof(context, caller, operator.token)
    await throttle_actor(context, caller, operator.id, INVITE)
    async with context.pool.transaction() as conn:
        return await invite(conn, context.settings, body, caller.locale, operator.by())
