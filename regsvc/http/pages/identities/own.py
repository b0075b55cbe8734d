"""The identities of one's account: add one by way of its provider, remove one, or prove by one to be there."""

from __future__ import annotations

from collections.abc import Mapping

from quart import Response

from regsvc.accounts.identities.identity import IdentityNotFoundError
from regsvc.accounts.sessions.proof import ProofNeededError
from regsvc.flows.identities.arrival import FlowStateInvalidError
from regsvc.flows.identities.departure import depart
from regsvc.flows.identities.own_identities import link, prove_by_identity, unlink
from regsvc.flows.login.proof import require_proof
from regsvc.http.context import Context, get_context
from regsvc.http.pages.browser_session import find_visitor, lead_to_login
from regsvc.http.pages.factors.proof import find_place, lead_to_proof, read_target
from regsvc.http.pages.factors.security import PATH, act_on
from regsvc.http.pages.forms import lead_to
from regsvc.http.pages.identities.flow_cookie import lead_away
from regsvc.http.pages.page import blueprint
from regsvc.http.request.body import read_id
from regsvc.http.request.caller import get_caller
from regsvc.security.identities.flow_state import FlowState
from regsvc.security.identities.proven_identity import ProvenIdentity
from regsvc.security.signing.access_token import AccessToken


@blueprint.get(f"{PATH}/identities/with/<name>")
async def begin_link(name: str) -> Response:
    """Lead a user to a provider whose identity their account gets; nothing changes before they are back."""
    visitor = await find_visitor()
    if visitor is None:
        return lead_to_login()
    try:
        await require_proof(get_context(), get_caller(), visitor)
    except ProofNeededError:
        return lead_to_proof("security")
    return lead_away(await depart(get_context(), name, "link", session=visitor.session_id))


@blueprint.get(f"{PATH}/identities/proof/<name>")
async def begin_proof(name: str) -> Response:
    """Lead a user to a provider by whose identity they prove that they are there."""
    visitor = await find_visitor()
    if visitor is None:
        return lead_to_login()
    session, target = visitor.session_id, read_target()
    return lead_away(await depart(get_context(), name, "prove", session=session, target=target))


@blueprint.post(f"{PATH}/identities/remove")
async def submit_removal() -> Response:
    """Remove an identity."""

    async def remove(context: Context, visitor: AccessToken, form: Mapping[str, str]) -> None:
        wanted = read_id(form.get("identity", ""), IdentityNotFoundError)
        await unlink(context, get_caller(), visitor, wanted)

    return await act_on("identities", remove, done="identities")


async def finish_own(flow: FlowState, proven: ProvenIdentity) -> Response:
    """Add an identity to the account of the session that asked for it, and of no other; or prove its user by it.

    Raises:
        FlowStateInvalidError: this browser is in another session now.
        IdentityTakenError, TooManyIdentitiesError, RateLimitedError: see `link`.
        IdentityRefusedError: see `prove_by_identity`.
    """
    visitor = await find_visitor()
    if visitor is None or str(visitor.session_id) != flow.session:
        raise FlowStateInvalidError
    if flow.purpose == "prove":
        await prove_by_identity(get_context(), get_caller(), visitor, proven)
        return lead_to(find_place(flow.target) or PATH)
    await link(get_context(), get_caller(), visitor, proven)
    return lead_to(f"{PATH}?done=identities#identities")
