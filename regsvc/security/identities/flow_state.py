"""What a browser keeps, sealed, between its departure to a provider and its return: nothing is stored here."""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import secrets as random
import time
from dataclasses import asdict, dataclass
from typing import Final, Literal, TypeAlias

from regsvc.security.identities.proven_identity import ProvenIdentity
from regsvc.security.seals import UnsealError, seal, unseal
from regsvc.security.tokens import Secrets

LIFE: Final = 600  # seconds
_LABEL: Final = "identity-flow"
_IDENTITY: Final = "identity-proven"
_LONGEST: Final = 4096  # characters of a cookie

Purpose: TypeAlias = Literal["login", "link", "prove"]


@dataclass(frozen=True, repr=False)
class FlowState:
    """One way to a provider and back.

    Args:
        provider: its name.
        purpose: `login`; `link`: add the identity to the account of `session`; `prove`: step up that session.
        state: sent with the request; the answer has to bring it back.
        nonce: sent with the request; the ID token has to bring it back.
        verifier: of PKCE.
        return_to: URI of another client that gets a code of ours; empty: this browser logs in here.
        code_challenge: that client's (PKCE).
        session: id of the session of `link` and `prove`.
        expires: seconds since the epoch.
        target: word for the page that a proof leads to.
    """

    provider: str
    purpose: Purpose
    state: str
    nonce: str
    verifier: str
    return_to: str = ""
    code_challenge: str = ""
    session: str = ""
    expires: int = 0
    target: str = ""

    @property
    def begun(self) -> int:
        """When the browser left, in seconds since the epoch."""
        return self.expires - LIFE


def begin_flow(
    provider: str,
    purpose: Purpose = "login",
    *,
    return_to: str = "",
    code_challenge: str = "",
    session: str = "",
    target: str = "",
) -> FlowState:
    """Return a new flow with random state, nonce and verifier, 256 bits each."""
    state, nonce, verifier = (random.token_urlsafe(32) for _ in range(3))
    expires = int(time.time()) + LIFE
    return FlowState(
        provider, purpose, state, nonce, verifier, return_to, code_challenge, session, expires, target
    )


def seal_flow(secrets: Secrets, flow: FlowState) -> str:
    """Return the value of the browser's cookie."""
    plain = json.dumps(asdict(flow)).encode()
    return base64.urlsafe_b64encode(seal(secrets, _LABEL, plain, bound=b"")).decode()


def open_flow(secrets: Secrets, text: str, provider: str, state: str) -> FlowState | None:
    """Return the flow in a cookie if it is this provider's, its state is the given one, and its time is not over.

    Args:
        secrets: as `seal_flow`.
        text: of the cookie.
        provider: that answers.
        state: of the answer.
    """
    if len(text) > _LONGEST:
        return None
    try:
        plain = unseal(secrets, _LABEL, base64.b64decode(text, altchars=b"-_", validate=True), bound=b"")
        flow = FlowState(**json.loads(plain))
    except (UnsealError, binascii.Error, ValueError, TypeError):
        return None
    same = hmac.compare_digest(flow.state.encode(), state.encode("utf-8", "replace"))
    return flow if same and flow.provider == provider and flow.expires > time.time() else None


def seal_identity(secrets: Secrets, proven: ProvenIdentity) -> str:
    """Return what a browser keeps of a proven identity while its person is asked something more."""
    plain = json.dumps([int(time.time()) + LIFE, asdict(proven)]).encode()
    return base64.urlsafe_b64encode(seal(secrets, _IDENTITY, plain, bound=b"")).decode()


def open_identity(secrets: Secrets, text: str, provider: str) -> ProvenIdentity | None:
    """Return the identity that a browser kept if it is this provider's and its time is not over."""
    if len(text) > _LONGEST:
        return None
    try:
        plain = unseal(secrets, _IDENTITY, base64.b64decode(text, altchars=b"-_", validate=True), bound=b"")
    except (UnsealError, binascii.Error, ValueError):
        return None
    expires, fields = json.loads(plain)
    proven = ProvenIdentity(**fields)
    return proven if proven.provider == provider and expires > time.time() else None
