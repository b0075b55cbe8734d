"""What every flow works with."""

from __future__ import annotations

from dataclasses import dataclass

from regsvc.config.settings import Settings
from regsvc.postgres.pool import Pool
from regsvc.security.passwords import HashingLane
from regsvc.security.tokens import Secrets


@dataclass(frozen=True)
class Service:
    """The parts of the running service that a flow may use.

    Args:
        settings: of this process.
        secrets: what tokens derive from.
        pool: PostgreSQL.
        lane: where passwords are hashed.
    """

    settings: Settings
    secrets: Secrets
    pool: Pool
    lane: HashingLane
