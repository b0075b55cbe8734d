"""Other clients, such as apps: from a code in their URI to tokens, or to an identity of the account."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from urllib.parse import urlencode, urlsplit

from pydantic import Field, StringConstraints

from regsvc.accounts.identities.login_codes import LoginCode, add_code, put_back, take_code
from regsvc.accounts.sessions.refresh_token import Grant
from regsvc.flows.caller import Caller
from regsvc.flows.identities.own_identities import link, prove_by_identity
from regsvc.flows.identities.settling import SignUpBegun, settle
from regsvc.flows.login.proof import require_proof
from regsvc.flows.rate_limits import LOGIN, throttle
from regsvc.flows.service import Service
from regsvc.flows.signup import policy
from regsvc.schemas.fields import Body
from regsvc.security.identities.flow_state import FlowState
from regsvc.security.identities.proven_identity import ProvenIdentity
from regsvc.security.identities.provider import hash_verifier
from regsvc.security.signing.access_token import AccessToken


class CodeBody(Body):
    """The code of a login with an identity provider, and the secret that its challenge was made of (RFC 7636, 4.1)."""

    code: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    code_verifier: Annotated[
        str,
        StringConstraints(pattern=r"^[A-Za-z0-9._~-]{43,128}$"),
        Field(description="43 to 128 characters of `A-Z a-z 0-9 - . _ ~`."),
    ]


class ExchangeBody(CodeBody):
    """The same, and the terms that the person accepts, should an account be opened."""

    terms: policy.TermsText = None


async def hand_out_code(service: Service, flow: FlowState, proven: ProvenIdentity) -> str:
    """Return the URI of the other client with a code for an identity."""
    async with service.pool.connection() as conn:
        code = await add_code(conn, proven, flow.code_challenge)
    return add_query(flow.return_to, {"code": code})


def add_query(uri: str, parameters: dict[str, str]) -> str:
    """Return a URI with more parameters in its query."""
    return f"{uri}{'&' if urlsplit(uri).query else '?'}{urlencode(parameters)}"


async def exchange(service: Service, caller: Caller, body: ExchangeBody) -> Grant | SignUpBegun:
    """Exchange a code for what its identity leads to.

    Raises:
        LoginCodeInvalidError: the code is not good, or another client's.
        RateLimitedError: this client is too fast.
        TermsNeededError: an account would be opened; the code stays good.
        SignupClosedError, InvitationNeededError, DomainNotAllowedError: see `policy`.
        LocalLoginNeededError, AddressMissingError, IdentityRefusedError: see `settle`.
    """
    await throttle(service, caller, LOGIN)
    taken = await _take(service, body)
    try:
        return await settle(service, caller, taken.proven, body.terms)
    except policy.TermsNeededError:
        async with service.pool.connection() as conn:
            await put_back(conn, taken)
        raise


async def link_by_code(service: Service, caller: Caller, token: AccessToken, body: CodeBody) -> None:
    """Add the identity of a code to the account of a session.

    Raises:
        ProofNeededError: the session has not proved its user lately.
        LoginCodeInvalidError: the code is not good, or another client's.
        IdentityTakenError, TooManyIdentitiesError, RateLimitedError: see `link`.
    """
    await require_proof(service, caller, token)  # before the code is used up
    await link(service, caller, token, (await _take(service, body)).proven)


async def prove_by_code(service: Service, caller: Caller, token: AccessToken, body: CodeBody) -> datetime:
    """Prove that a session's user is there by the identity of a code, and return until when that holds.

    Raises:
        LoginCodeInvalidError: the code is not good, or another client's.
        IdentityRefusedError, RateLimitedError: see `prove_by_identity`.
    """
    return await prove_by_identity(service, caller, token, (await _take(service, body)).proven)


async def _take(service: Service, body: CodeBody) -> LoginCode:
    async with service.pool.connection(alone=True) as conn:
        return await take_code(conn, body.code, hash_verifier(body.code_verifier))
