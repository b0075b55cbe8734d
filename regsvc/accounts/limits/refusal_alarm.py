"""The alarm for many refused requests: each client's refusals look harmless, all of them together do not."""

from __future__ import annotations

from collections import Counter

import structlog
import trio

log = structlog.get_logger()

MANY = 300  # refusals
WINDOW = 60.0  # seconds
_MOST_CLIENTS = 10_000  # of which the number is told; a crowd as large is an attack anyway


class RefusalAlarm:
    """Log one warning a minute while rate limits refuse many requests in this process.

    Args:
        many: refusals within a minute that are worth a warning.
    """

    def __init__(self, many: int = MANY) -> None:
        self._many = many
        self._begun = -WINDOW
        self._limits: Counter[str] = Counter()
        self._clients: set[str] = set()

    def note(self, limit: str, client: str) -> None:
        """Count one refusal.

        Args:
            limit: its name.
            client: the network that was refused.
        """
        now = trio.current_time()
        if now - self._begun >= WINDOW:
            self._begun = now
            self._limits.clear()
            self._clients.clear()
        self._limits[limit] += 1
        if len(self._clients) < _MOST_CLIENTS:
            self._clients.add(client)
        if self._limits.total() == self._many:
            log.warning(
                "many requests refused",
                count=self._many,
                seconds=round(now - self._begun, 1),
                clients=len(self._clients),
                limits=dict(self._limits.most_common()),
            )
