"""What every flow works with."""

from __future__ import annotations

from dataclasses import dataclass, field

import trio

from regsvc.accounts.limits.refusal_alarm import RefusalAlarm
from regsvc.accounts.limits.refused_keys import RefusedKeys
from regsvc.config.settings import Settings
from regsvc.dns.for_clients import ClientLookUps
from regsvc.dns.resolver import Resolver
from regsvc.flows.signup.hook import SignupHook
from regsvc.postgres.pool import Pool
from regsvc.security.identities.provider import IdentityProviders
from regsvc.security.passwords import HashingLane
from regsvc.security.tokens import Secrets

EXPORTS = 2  # that are written at once


@dataclass(frozen=True)
class Service:
    """The parts of the running service that a flow may use.

    Args:
        settings: of this process.
        secrets: what tokens derive from.
        pool: PostgreSQL.
        lane: where passwords are hashed.
        refused: clients that the rate limits have just refused.
        refusal_alarm: tells the operator when the limits refuse many requests.
        providers: identity providers, and what is known of them.
        exports: users whose data is being exported at this moment.
        look_ups: asks the DNS on behalf of clients.
        hook: asks the operator's own service about each sign-up.
    """

    settings: Settings
    secrets: Secrets
    pool: Pool
    lane: HashingLane
    refused: RefusedKeys = field(default_factory=RefusedKeys, kw_only=True)
    refusal_alarm: RefusalAlarm = field(default_factory=RefusalAlarm, kw_only=True)
    providers: IdentityProviders = field(default_factory=IdentityProviders, kw_only=True)
    exports: trio.CapacityLimiter = field(default_factory=lambda: trio.CapacityLimiter(EXPORTS), kw_only=True)
    look_ups: ClientLookUps = field(init=False)
    hook: SignupHook = field(init=False)

    def __post_init__(self) -> None:
        look_ups = ClientLookUps(Resolver(self.settings.dns_server))
        object.__setattr__(self, "hook", SignupHook(self.settings))
        object.__setattr__(self, "look_ups", look_ups)  # as dataclasses says: it is frozen
