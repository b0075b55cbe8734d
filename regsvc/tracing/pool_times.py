"""How long a pool of connections is waited for, and how long a connection is used."""

from __future__ import annotations

from typing import Final

from regsvc.metrics import DATABASE_USE, DATABASE_WAIT
from regsvc.tracing.spans import record

_DATABASE: Final = {"db.system.name": "postgresql"}


class PoolTimes:
    """Histograms of one pool, and spans in traced requests.

    Args:
        use: what the pool is for: `http` or `work`.
    """

    def __init__(self, use: str) -> None:
        self._waited, self._used = DATABASE_WAIT.labels(use), DATABASE_USE.labels(use)

    def note(self, waited: float, used: float) -> None:
        """Note the seconds before and after a connection was lent, which has just come back."""
        self._waited.observe(waited)
        self._used.observe(used)
        record("wait for a connection", waited, seconds_ago=used)
        record("database", used, kind="client", attributes=_DATABASE)
