"""Who asks for something: all that a flow knows of the request behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from regsvc.accounts.audit.record import ActorKind, By
from regsvc.accounts.limits.rate_limit import Standing
from regsvc.security.signing.access_token import AccessToken


@dataclass
class Caller:
    """The client of one request.

    Args:
        network: what counts as one client: an IPv4 address, or the /64 of an IPv6 address.
        wide_network: the /48 of an IPv6 address, of which one customer may have all; empty for IPv4.
        origin: the network prefix that is kept and shown, or `unknown`.
        client: a short word for the client's software.
        locale: the language that the client asks for, one of ours.
        request_id: as in the answer and the log.
        limited: whether rate limits and mail schedules apply.
        standings: how the client stands with the limits that counted this request.
        solution: of a challenge, as the client sent it; empty if it sent none.
        cleared: whether the solution was right, and is used up.
    """

    network: str
    wide_network: str
    origin: str
    client: str
    locale: str
    request_id: str
    limited: bool
    standings: Sequence[Standing] = ()
    solution: str = ""
    cleared: bool = False

    @property
    def line(self) -> str | None:
        """Whose turn a hash takes: the client's network; None where no limits apply."""
        return self.origin if self.limited else None

    def as_anyone(self) -> By:
        """Return the audit actor of a client that has not proved who it is."""
        return By(
            "anonymous",
            origin=self.origin,
            client=self.client,
            request_id=self.request_id,
            network=self.network,
        )

    def as_user(self, token: AccessToken) -> By:
        """Return the audit actor for the token's user."""
        return self.act_as("user", token.user_id, token.session_id)

    def as_admin(self, token: AccessToken) -> By:
        """Return the audit actor for the token's administrator."""
        return self.act_as("admin", token.user_id, token.session_id)

    def act_as(self, actor: ActorKind, actor_id: UUID, session_id: UUID | None) -> By:
        """Return the audit actor of a kind that has an id."""
        return By(
            actor,
            actor_id=actor_id,
            session_id=session_id,
            origin=self.origin,
            client=self.client,
            request_id=self.request_id,
            network=self.network,
        )
