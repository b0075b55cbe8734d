"""Take the answer that a browser brings back from an identity provider."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import structlog

from regsvc.accounts.audit.record import record
from regsvc.accounts.limits.rate_limit import Limit, RateLimitedError, demand, take_permits
from regsvc.errors import RegsvcError
from regsvc.flows.caller import Caller
from regsvc.flows.identities.departure import find_provider, redirect_uri
from regsvc.flows.rate_limits import LOGIN, throttle
from regsvc.flows.service import Service
from regsvc.metrics import IDENTITY_ANSWERS
from regsvc.security.identities.errors import IdentityRefusedError, ProviderUnavailableError
from regsvc.security.identities.flow_state import LIFE, FlowState, open_flow
from regsvc.security.identities.proven_identity import ProvenIdentity

log = structlog.get_logger()

_ONCE = Limit("identity-state", quota=1, seconds=2 * LIFE)
_LONGEST = 4096  # characters of a code


class FlowStateInvalidError(RegsvcError):
    """This login was begun in another browser, more than ten minutes ago, or was finished before. Start again."""

    code = "identity_state_invalid"


class ProviderDeclinedError(RegsvcError):
    """The login was cancelled at the identity provider."""

    code = "identity_declined"


@dataclass(frozen=True, repr=False)
class Answer:
    """What a provider had the browser bring. Nothing of it is checked.

    Args:
        state: as it was sent, if the answer is one to us.
        code: to redeem; empty where the provider says no.
        issuer: `iss` (RFC 9207); None if it has none.
        error: the provider's word for what went wrong; empty if nothing did.
        name: of the person, which Apple sends beside its answer, and once.
    """

    state: str
    code: str = ""
    issuer: str | None = None
    error: str = ""
    name: str = ""


def find_flow(service: Service, kept: Iterable[str], provider: str, state: str) -> FlowState:
    """Return the flow that an answer belongs to.

    Args:
        service: what to work with.
        kept: what the browser kept.
        provider: whose answer it is.
        state: of the answer.

    Raises:
        FlowStateInvalidError: this browser began none that it belongs to.
    """
    for text in kept:
        flow = open_flow(service.secrets, text, provider, state)
        if flow is not None:
            return flow
    raise FlowStateInvalidError


async def prove_identity(service: Service, caller: Caller, flow: FlowState, answer: Answer) -> ProvenIdentity:
    """Return the identity that an answer proves. An answer is taken once, whatever comes of it.

    Args:
        service: what to work with.
        caller: who brings it.
        flow: that it belongs to.
        answer: of the provider.

    Raises:
        FlowStateInvalidError: it was taken before.
        ProviderDeclinedError: the person or the provider said no.
        RateLimitedError: this client is too fast.
        ProviderUnavailableError: the provider does not answer.
        IdentityRefusedError: its answer proves nothing.
    """
    provider = find_provider(service, flow.provider)
    await throttle(service, caller, LOGIN)
    async with service.pool.connection() as conn:
        try:
            await take_permits(conn, [demand(service.secrets, _ONCE, flow.state)])
        except RateLimitedError:
            raise FlowStateInvalidError from None
    if answer.error or not answer.code:
        IDENTITY_ANSWERS.labels(provider.name, "declined").inc()
        raise ProviderDeclinedError
    try:
        if len(answer.code) > _LONGEST:
            raise IdentityRefusedError("code too long")  # noqa: TRY301 - counted like the others
        proven = await service.providers.get(provider).redeem(
            flow,
            code=answer.code,
            issuer=answer.issuer,
            redirect_uri=redirect_uri(service, provider.name),
        )
    except ProviderUnavailableError:
        IDENTITY_ANSWERS.labels(provider.name, "unavailable").inc()
        log.warning("identity provider unavailable", provider=provider.name)
        raise
    except IdentityRefusedError as error:
        IDENTITY_ANSWERS.labels(provider.name, "refused").inc()
        log.warning("identity refused", provider=provider.name, reason=error.reason)
        async with service.pool.connection() as conn:
            await record(conn, "identity_refused", caller.as_anyone(), provider=provider.name)
        raise
    IDENTITY_ANSWERS.labels(provider.name, "proved").inc()
    return proven if proven.name else replace(proven, name=answer.name)
