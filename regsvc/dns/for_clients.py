"""Look-ups on behalf of clients: few at once for each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from regsvc.dns.resolver import NoAnswerError, Resolver

LOOK_UPS: Final = 2
"""Look-ups of a client at once."""


@dataclass(frozen=True)
class ClientLookUps:
    """The resolver, as clients may use it.

    Args:
        resolver: looks names up.
        under_way: look-ups by client.
    """

    resolver: Resolver
    under_way: Counter[str] = field(default_factory=Counter)

    @contextmanager
    def counted(self, client: str) -> Iterator[Resolver]:
        """Yield the resolver for one look-up of a client.

        Raises:
            NoAnswerError: the client has too many look-ups under way.
        """
        if self.under_way[client] >= LOOK_UPS:
            raise NoAnswerError("the client has too many look-ups under way")
        self.under_way[client] += 1
        try:
            yield self.resolver
        finally:
            self.under_way[client] -= 1
            if not self.under_way[client]:
                del self.under_way[client]
