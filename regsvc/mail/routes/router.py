"""The transport over several routes, in order of preference.

A mail that one route does not accept goes by the next one at once. Each route has a breaker of its own: an open one is
passed over, and so is one whose last attempt failed, until a test or a mail shows that it works again. So the first
mails of an outage wait for it, and no others. A mail whose acceptance is unknown stays with its route.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

import structlog
import trio

from regsvc.mail.outcome import Aborted, Accepted, Delayed, Outcome
from regsvc.mail.queue.remedies import find_remedy
from regsvc.mail.queue.verdict import CHECKED, UNKNOWN, Breaker, Evidence, is_alike, judge
from regsvc.mail.routes.choice import is_down, moves_on

if TYPE_CHECKING:
    from regsvc.mail.envelope import Envelope
    from regsvc.mail.smtp.session import BeforeDot, OnConnected
    from regsvc.mail.transport import Transport

log = structlog.get_logger()

PATIENCE: Final = 2.0
"""Seconds in which a route must have connected before the next one is dialled."""
TEST_EVERY: Final = 10.0
"""Seconds between tests of a route that failed."""


@dataclass(frozen=True, slots=True)
class Way:
    """What is known of a mail that narrows the choice of its route.

    Args:
        bound: the one route to take, since the mail may have been accepted there.
        avoid: a route to take last.
        attempt: attempts of the mail, including this one.
    """

    bound: str | None = None
    avoid: str | None = None
    attempt: int = 1


ANY_WAY: Final = Way()


@dataclass(eq=False)
class RouteState:
    """One route, as this process sees it.

    Args:
        name: of the route.
        transport: sends by it.
        breaker: of the route, shared with other processes by `news`.
        doubted: the last attempt failed to reach it or was refused before a recipient was named.
        tested_at: when it was last tried while in doubt, by Trio's clock.
        news: evidence that other processes have not been told.
    """

    name: str
    transport: Transport
    breaker: Breaker = UNKNOWN
    doubted: bool = False
    tested_at: float = -math.inf
    news: list[Evidence] = field(default_factory=list)

    @property
    def usable(self) -> bool:
        """Return whether mails take it."""
        return not (self.breaker.open or self.doubted)


class Router:
    """Sends each mail by the first route that takes it.

    Args:
        transports: by the name of the route, in order of preference.
    """

    def __init__(self, transports: Mapping[str, Transport]) -> None:
        self.routes = [RouteState(name, transport) for name, transport in transports.items()]

    async def send(
        self,
        envelope: Envelope,
        before_dot: BeforeDot | None = None,
        on_connected: OnConnected | None = None,
        *,
        way: Way = ANY_WAY,
    ) -> Outcome:
        """Send one mail and return the outcome of the route that decided.

        Args:
            envelope: the mail.
            before_dot: as in every transport, for each route that is tried.
            on_connected: called once a route is reached.
            way: narrows the choice.
        """
        order = self.choose(way)
        failure: Outcome | None = None
        slow: list[RouteState] = []
        for place, route in enumerate(order):
            patience = PATIENCE if place + 1 < len(order) else math.inf
            outcome = await self._try(route, envelope, before_dot, on_connected, patience)
            if outcome is None:
                slow.append(route)
                outcome = Delayed("timeout", "connect")
            if not self._note(route, outcome, envelope.recipient, way.attempt):
                return self._decided(outcome, route, order[place + 1 :])
            failure = self._decided(outcome, route, () if way.bound is None else self.routes)
        for route in slow:  # nothing else took the mail: a slow route is better than none
            outcome = await self._try(route, envelope, before_dot, on_connected, math.inf)
            if outcome is not None and not self._note(route, outcome, envelope.recipient, way.attempt):
                return self._decided(outcome, route, ())
        return failure or Aborted()

    async def check(self, sender: str | None = None) -> Outcome:
        """Test the routes one after the other, and return the outcome of the first that works, else of the last."""
        outcome: Outcome = Aborted()
        for route in self.routes:
            outcome = await route.transport.check(sender)
            if isinstance(outcome, Accepted):
                break
        return outcome

    async def tend(self) -> None:
        """Maintain all routes, and test those that failed, until cancelled."""
        async with trio.open_nursery() as nursery:
            for route in self.routes:
                nursery.start_soon(route.transport.tend)
                nursery.start_soon(self._watch, route)

    async def aclose(self) -> None:
        """Close everything that is open."""
        for route in self.routes:
            await route.transport.aclose()

    def choose(self, way: Way = ANY_WAY) -> list[RouteState]:
        """Return the routes that a mail tries, first the one it takes."""
        if way.bound is not None:
            bound = [route for route in self.routes if route.name == way.bound]
            if bound:
                return bound
        usable = [route for route in self.routes if route.usable or self._is_due(route)]
        rest = [route for route in self.routes if route not in usable and not route.breaker.open]
        order = [*usable, *rest] or list(self.routes)
        return sorted(order, key=lambda route: route.name == way.avoid)

    def _is_due(self, route: RouteState) -> bool:
        """Return whether a mail tries a route that refused us late, which no test without a mail shows."""
        late = route.breaker.open and route.breaker.stage not in CHECKED
        return late and trio.current_time() - route.tested_at >= TEST_EVERY

    async def _try(
        self,
        route: RouteState,
        envelope: Envelope,
        before_dot: BeforeDot | None,
        on_connected: OnConnected | None,
        patience: float,
    ) -> Outcome | None:
        """Return the outcome on one route, or None if it was not reached in time; then nothing was sent."""
        if not route.usable:
            route.tested_at = trio.current_time()
        with trio.move_on_after(patience) as scope:

            def connected() -> None:
                scope.deadline = math.inf
                if on_connected is not None:
                    on_connected()

            return await route.transport.send(envelope, before_dot, connected)
        return None

    def _note(self, route: RouteState, outcome: Outcome, recipient: str, attempt: int) -> bool:
        """Add an outcome to a route's breaker, and return whether the next route is to be tried."""
        if isinstance(outcome, Aborted):
            return False
        evidence = Evidence(outcome, recipient, attempt)
        self.hear(route, [evidence])
        moving = moves_on(outcome, alike=is_alike(route.breaker, evidence))
        if moving and not isinstance(outcome, Accepted):
            log.warning(
                "mail route failed: the next one is tried",
                route=route.name,
                reason=outcome.reason,
                stage=outcome.stage,
                reply=outcome.reply,
            )
        return moving

    def hear(self, route: RouteState, evidence: Sequence[Evidence]) -> None:
        """Judge a route by new evidence, and keep it for the other processes."""
        before = route.breaker
        route.breaker = judge(before, evidence)
        if route.breaker != before:
            route.news += evidence
        last = evidence[-1].outcome
        route.doubted = is_down(last)
        if route.breaker.open and not before.open:
            log.error(
                "mail route closed: others are taken",
                route=route.name,
                reason=route.breaker.reason,
                stage=route.breaker.stage,
                reply=route.breaker.reply,
                remedy=find_remedy(route.breaker.reason, route.breaker.reply),
            )
        elif before.open and not route.breaker.open:
            log.info("mail route open again", route=route.name)

    def _decided(self, outcome: Outcome, route: RouteState, left: Sequence[RouteState]) -> Outcome:
        """Return the outcome with its route; `elsewhere` if another route might have taken the mail."""
        if isinstance(outcome, Aborted):
            return outcome
        if isinstance(outcome, Accepted):
            return replace(outcome, route=route.name)
        elsewhere = any(other is not route and other.usable for other in left)
        return replace(outcome, route=route.name, elsewhere=elsewhere)

    async def _watch(self, route: RouteState) -> None:
        """Test a route that could not be reached every ten seconds, without a mail."""
        while True:
            await trio.sleep(TEST_EVERY)
            if route.usable or (route.breaker.open and route.breaker.stage not in CHECKED):
                continue
            route.tested_at = trio.current_time()
            outcome = await route.transport.check()
            if isinstance(outcome, Accepted):
                self.hear(route, [Evidence(outcome)])
