"""Recently refused rate limit keys, kept in memory: the next request is refused without the database."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import trio

from regsvc.accounts.limits.rate_limit import Demand, RateLimitedError, Standing

MOST = 10_000  # keys; the oldest are forgotten
LONGEST = 60.0  # seconds; after them an operator's reset in the database takes effect


class RefusedKeys:
    """Keys of exhausted limits, each until a permit is available or `LONGEST` has passed.

    A refused client tends to retry at once. Its refusal costs no statement, so refused clients do not delay others.
    Forgetting a key is harmless: the database decides.
    """

    def __init__(self) -> None:
        self._until: OrderedDict[bytes, tuple[float, float]] = OrderedDict()  # forgotten at; used up until

    def check(self, demands: Sequence[Demand]) -> None:
        """Refuse a key that was recently refused.

        Raises:
            RateLimitedError: a key was recently refused.
        """
        now = trio.current_time()
        for each in demands:
            forgotten, free = self._until.get(each.key, (0.0, 0.0))
            if forgotten > now:
                standing = Standing(each.limit, 0, free - now)
                wait = free - now - each.limit.seconds * (1 - 1 / each.limit.quota)
                raise RateLimitedError(each.limit.name, wait, [standing])

    def note(self, demands: Sequence[Demand], standings: Sequence[Standing]) -> None:
        """Remember the exhausted keys of a refusal."""
        now = trio.current_time()
        for each, standing in zip(demands, standings, strict=True):
            if standing.remaining > 0:
                continue
            wait = standing.reset - each.limit.seconds * (1 - 1 / each.limit.quota)
            if wait > 0:
                self._until[each.key] = (now + min(wait, LONGEST), now + standing.reset)
                self._until.move_to_end(each.key)
        while len(self._until) > MOST:
            self._until.popitem(last=False)
