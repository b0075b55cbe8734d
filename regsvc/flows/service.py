"""What every flow works with."""

from __future__ import annotations

from dataclasses import dataclass, field

import trio

from regsvc.accounts.limits.refusal_alarm import RefusalAlarm
from regsvc.accounts.limits.refused_keys import RefusedKeys
from regsvc.config.settings import Settings
from regsvc.postgres.pool import Pool
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
        exports: users whose data is being exported at this moment.
    """

    settings: Settings
    secrets: Secrets
    pool: Pool
    lane: HashingLane
    refused: RefusedKeys = field(default_factory=RefusedKeys, kw_only=True)
    refusal_alarm: RefusalAlarm = field(default_factory=RefusalAlarm, kw_only=True)
    exports: trio.CapacityLimiter = field(default_factory=lambda: trio.CapacityLimiter(EXPORTS), kw_only=True)
