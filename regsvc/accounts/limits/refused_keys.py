"""Who was refused a moment ago, kept in memory: the next request is refused without asking the database."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import trio

from regsvc.accounts.limits.rate_limit import Demand, RateLimitedError, Standing

MOST = 10_000  # keys; the oldest are forgotten
LONGEST = 60.0  # seconds; what an operator resets in the database is true again by then


class RefusedKeys:
    """The keys of limits that have nothing left, each until it has or `LONGEST` has passed.

    A client that is refused tends to come again at once. Its refusal costs no statement, so that who is held back
    holds nobody else up. Forgetting a key is harmless: the database decides.
    """

    def __init__(self) -> None:
        self._until: OrderedDict[bytes, tuple[float, float]] = OrderedDict()  # forgotten at; used up until

    def check(self, demands: Sequence[Demand]) -> None:
        """Refuse what was refused a moment ago.

        Raises:
            RateLimitedError: one of these keys was.
        """
        now = trio.current_time()
        for each in demands:
            forgotten, free = self._until.get(each.key, (0.0, 0.0))
            if forgotten > now:
                standing = Standing(each.limit, 0, free - now)
                wait = free - now - each.limit.seconds * (1 - 1 / each.limit.quota)
                raise RateLimitedError(each.limit.name, wait, [standing])

    def note(self, demands: Sequence[Demand], standings: Sequence[Standing]) -> None:
        """Keep who has nothing left, by what a refusal said."""
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
