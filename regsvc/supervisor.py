"""Keep long-running Trio functions alive, independently of each other.

A supervisor runs its children side by side and restarts a failed one after a growing pause, without touching the
others (one-for-one: functions that must die together are one child). It stops in two phases: the `stopping` event asks
the children to return, and those still running after `grace` seconds are cancelled.

A hook receives every event as frozen data; `Supervisor.statistics` returns a snapshot. This module needs only Trio and
the standard library, and knows nothing about the program around it.
"""

from __future__ import annotations

import logging
import math
import random
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Literal, TypeAlias

import trio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

_log = logging.getLogger(__name__)


class SupervisorError(Exception):
    """A supervisor cannot continue, or was asked for a child that it does not have."""


class GaveUpError(SupervisorError):
    """An essential child failed too often in a row."""


class UnknownChildError(SupervisorError, KeyError):
    """No child has this name."""

    __str__ = Exception.__str__  # KeyError would show the repr of the message


class ChildReturnedError(SupervisorError):
    """A child returned before it was asked to stop."""


@dataclass(frozen=True)
class Backoff:
    """The pause before a failed child is restarted.

    Attributes:
        initial: seconds after the first failure.
        cap: longest pause in seconds. Small (2) for a child that waits for a dependency and must be back soon after it,
            large (30) for one that crashes.
        jitter: share of the pause, 0 to 1, that may be taken off at random, so that children and processes that failed
            together do not retry together.
        healthy: seconds of running after which earlier failures are forgotten.

    Raises:
        ValueError: a value is out of range.
    """

    initial: float = 0.5
    cap: float = 30.0
    jitter: float = 0.2
    healthy: float = 60.0

    def __post_init__(self) -> None:
        """Refuse values that would never wait, or wait for ever."""
        if not (0 < self.initial <= self.cap < math.inf and 0 <= self.jitter <= 1 and self.healthy >= 0):
            raise ValueError(f"invalid back-off: {self}")

    def delay(self, failures: int, chance: float = 0.0) -> float:
        """Return the seconds to wait after that many failures in a row.

        delay = min(cap, initial * 2^(failures - 1)) * (1 - jitter * chance)

        With the defaults, from the longest (chance 0) to the shortest (chance near 1):

            failures    1        2        3        4      5        6          7 and more
            seconds     0.5-0.4  1.0-0.8  2.0-1.6  4-3.2  8-6.4    16-12.8    30-24

        Args:
            failures: failures in a row, from 1.
            chance: a random number of at least 0 and below 1.
        """
        doublings = min(failures - 1, 64)  # beyond any cap, and 2.0 ** 1024 would overflow
        return min(self.cap, self.initial * 2.0**doublings) * (1 - self.jitter * chance)


@dataclass(frozen=True)
class Child:
    """One function to keep alive, and the rules it must follow.

    `run(task_status=...)` is an async function as `nursery.start` expects it:

    - It calls `task_status.started()` once it is at work (port bound, connection open); the value that it passes goes
      into the event. Until then it counts as starting, and `Backoff.healthy` does not run.
    - It runs until the `stopping` event that it shares with its supervisor is set. Then it finishes the work in hand
      and returns, within the supervisor's grace. Returning earlier is a failure.
    - It raises when it cannot work any more. It has no retry loop of its own, which would be a second, hidden
      supervisor. To wait for a dependency, it raises and is restarted.
    - It lets `trio.Cancelled` pass, and checks `stopping`, never the type of an exception, to learn whether this is
      the end. It is cancelled when the grace is over, when an operator restarts it, and when the program exits at
      once; it may be cut off at any checkpoint and must be able to start again from what is stored.
    - It owns everything it opens: each life begins with nothing and leaves nothing behind.

    Attributes:
        name: unique among its siblings.
        run: the function.
        backoff: the pauses between lives.
        give_up_after: failures in a row that end the supervisor; None: never.
    """

    name: str
    run: Callable[..., Awaitable[None]]
    backoff: Backoff = field(default_factory=Backoff)
    give_up_after: int | None = None


@dataclass(frozen=True)
class ChildStarted:
    """A child is at work. `value` is what it passed to `started()`, `lives` counts from 1."""

    name: str
    lives: int
    value: object


@dataclass(frozen=True)
class ChildFailed:
    """A child raised, or returned too early. It is restarted in `delay` seconds; None: never.

    `error` is unwrapped when there was only one. Keeping it also keeps its traceback.
    """

    name: str
    error: BaseException
    text: str
    failures_in_a_row: int
    delay: float | None


@dataclass(frozen=True)
class ChildGaveUp:
    """A child failed too often in a row; the supervisor stops the others and raises."""

    name: str
    failures_in_a_row: int
    text: str


@dataclass(frozen=True)
class RestartRequested:
    """An operator asked for a child to be restarted."""

    name: str


@dataclass(frozen=True)
class StopRequested:
    """`stopping` is set; children have `grace` seconds."""

    grace: float


@dataclass(frozen=True)
class ChildCancelled:
    """A child was still running when the grace was over, and is cancelled."""

    name: str


@dataclass(frozen=True)
class ChildStopped:
    """A child has ended for good. Always its last event."""

    name: str


Event: TypeAlias = (
    ChildStarted
    | ChildFailed
    | ChildGaveUp
    | RestartRequested
    | StopRequested
    | ChildCancelled
    | ChildStopped
)
State: TypeAlias = Literal["starting", "running", "waiting", "stopped"]


@dataclass(frozen=True)
class ChildStatistics:
    """A snapshot of one child.

    Attributes:
        name: of the child.
        state: `starting` until it calls `started()`, `waiting` between a failure and its next life.
        seconds: time in this state.
        lives: how often it was started.
        failures: total number of failures.
        failures_in_a_row: failures that are not forgotten yet.
        last_error: text of the last failure; None before the first.
        next_try: seconds until its next life, while waiting.
    """

    name: str
    state: State
    seconds: float
    lives: int
    failures: int
    failures_in_a_row: int
    last_error: str | None
    next_try: float | None


@dataclass(frozen=True)
class SupervisorStatistics:
    """A snapshot of a supervisor, with its children in the order they were given."""

    stopping: bool
    children: tuple[ChildStatistics, ...]


class _Kept:
    """A child with its state and counters."""

    def __init__(self, child: Child) -> None:
        self.child = child
        self.state: State = "starting"
        self.since = math.inf  # Trio's clock; not started yet
        self.scope = trio.CancelScope()  # of its current life or pause
        self.restart_requested = False
        self.lives = 0
        self.failures = 0
        self.failures_in_a_row = 0
        self.last_error: str | None = None
        self.wake_at = 0.0

    def enter(self, state: State) -> None:
        self.state = state
        self.since = trio.current_time()

    def unforgotten_failures(self) -> int:
        healthy_since = trio.current_time() - self.child.backoff.healthy
        return 0 if self.state == "running" and self.since <= healthy_since else self.failures_in_a_row

    def statistics(self) -> ChildStatistics:
        now = trio.current_time()
        return ChildStatistics(
            name=self.child.name,
            state=self.state,
            seconds=max(0.0, now - self.since),
            lives=self.lives,
            failures=self.failures,
            failures_in_a_row=self.unforgotten_failures(),
            last_error=self.last_error,
            next_try=max(0.0, self.wake_at - now) if self.state == "waiting" else None,
        )


class _LifeStatus(trio.TaskStatus[object]):
    """The task status of one life. Not `nursery.start`, whose caller would hang on a slow start."""

    def __init__(self, told: Callable[[object], None]) -> None:
        self._told: Callable[[object], None] | None = told

    def started(self, value: object = None) -> None:
        if self._told is None:
            raise RuntimeError("called 'started' twice on the same task status")
        told, self._told = self._told, None
        told(value)


class Supervisor:
    """Run children until `stopping` is set, restarting those that fail.

    Args:
        children: what to keep alive, with distinct names.
        stopping: set by the program to stop (on a signal, say), and by the supervisor when a child gives up.
        hook: called with every event, synchronously in Trio's thread. An exception from it is logged and dropped.
        grace: seconds between `stopping` and the cancellation of children that have not returned.

    Raises:
        ValueError: two children have the same name.
    """

    def __init__(
        self,
        children: Sequence[Child],
        *,
        stopping: trio.Event,
        hook: Callable[[Event], object] = lambda _event: None,
        grace: float = 20.0,
    ) -> None:
        self._kept = {child.name: _Kept(child) for child in children}
        if len(self._kept) != len(children):
            raise ValueError("two children have the same name")
        self._stopping = stopping
        self._hook = hook
        self._grace = grace
        self._unheard = set(self._kept)  # neither started nor failed yet
        self._all_heard: Callable[[], None] = lambda: None
        self._left = len(self._kept)
        self._empty = trio.Event()
        self._gave_up: GaveUpError | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run the children until the end; once only.

        Reports `started` when every child has started or failed once, so a missing dependency does not delay it.

        Raises:
            GaveUpError: a child gave up; the others were stopped first, in the usual two phases.
        """
        self._all_heard = task_status.started
        async with trio.open_nursery() as nursery:
            for kept in self._kept.values():
                nursery.start_soon(self._keep, kept, name=f"keeper of {kept.child.name}")
            if not self._kept:
                task_status.started()
                self._empty.set()
            await self._stopping.wait()
            self._tell(StopRequested(self._grace))
            with trio.move_on_after(self._grace) as grace:
                await self._empty.wait()
            if grace.cancelled_caught:
                for kept in self._kept.values():
                    if kept.state != "stopped":
                        self._tell(ChildCancelled(kept.child.name))
                nursery.cancel_scope.cancel(reason="the supervisor's grace is over")
        if self._gave_up:
            raise self._gave_up

    def restart(self, name: str) -> None:
        """Cancel a child and restart it at once, even during its pause, with its failures forgotten.

        Does nothing once the supervisor is stopping.

        Raises:
            UnknownChildError: no child has this name.
        """
        kept = self._kept.get(name)
        if kept is None:
            raise UnknownChildError(f"no child is called {name!r}; the children are {', '.join(self._kept)}")
        if self._stopping.is_set():
            return
        kept.restart_requested = True
        kept.failures_in_a_row = 0
        self._tell(RestartRequested(name))
        kept.scope.cancel(reason="an operator restarts the child")

    def statistics(self) -> SupervisorStatistics:
        """Return a snapshot of the children. Call it within a Trio run, since it reads Trio's clock."""
        return SupervisorStatistics(
            stopping=self._stopping.is_set(),
            children=tuple(kept.statistics() for kept in self._kept.values()),
        )

    async def _keep(self, kept: _Kept) -> None:
        """Run a child life after life until `stopping` is set."""
        try:
            while not self._stopping.is_set():
                delay = await self._live(kept)
                if not (kept.restart_requested or self._stopping.is_set()):
                    await self._pause(kept, delay)
        finally:
            kept.enter("stopped")
            self._tell(ChildStopped(kept.child.name))
            self._hear_of(kept)
            self._left -= 1
            if not self._left:
                self._empty.set()

    async def _live(self, kept: _Kept) -> float:
        """Run one life of a child and return the seconds to wait before the next."""
        kept.restart_requested = False
        kept.lives += 1
        kept.enter("starting")
        with trio.CancelScope() as kept.scope:
            try:
                # A task for every life: fresh context variables, and errors always come in a group.
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._run_child, kept, name=kept.child.name)
            except BaseExceptionGroup as group:
                return self._judge(kept, group)
        return 0.0

    async def _run_child(self, kept: _Kept) -> None:
        await kept.child.run(task_status=_LifeStatus(partial(self._note_start, kept)))
        if not (self._stopping.is_set() or kept.restart_requested):
            raise ChildReturnedError("returned before it was asked to stop")

    async def _pause(self, kept: _Kept, delay: float) -> None:
        """Wait before the next life, until `stopping` or an operator's restart."""
        kept.enter("waiting")
        kept.wake_at = trio.current_time() + delay
        with trio.move_on_after(delay) as kept.scope:
            await self._stopping.wait()

    def _note_start(self, kept: _Kept, value: object) -> None:
        kept.enter("running")
        self._tell(ChildStarted(kept.child.name, kept.lives, value))
        self._hear_of(kept)

    def _judge(self, kept: _Kept, group: BaseExceptionGroup) -> float:
        """Record a child's failure and return the seconds to wait before its next life. Other errors are raised again.

        Only the text of an error is kept: an exception holds its traceback, whose frames hold the exception before.
        """
        failure, rest = group.split(_is_failure)
        delay = 0.0 if failure is None else self._note_failure(kept, _unwrapped(failure))
        if rest is not None:
            raise rest
        return delay

    def _note_failure(self, kept: _Kept, error: BaseException) -> float:
        child = kept.child
        kept.failures += 1
        kept.last_error = text = _describe(error)
        delay: float | None = None
        gave_up = False
        if kept.restart_requested:
            delay = 0.0  # an effect of the cancellation, not its own failure
        elif not self._stopping.is_set():
            kept.failures_in_a_row = kept.unforgotten_failures() + 1
            gave_up = child.give_up_after is not None and kept.failures_in_a_row >= child.give_up_after
            if not gave_up:
                chance = random.random()  # noqa: S311 - spreads load, guards nothing
                delay = child.backoff.delay(kept.failures_in_a_row, chance)
        self._tell(ChildFailed(child.name, error, text, kept.failures_in_a_row, delay))
        if gave_up:
            self._give_up(kept, text)
        self._hear_of(kept)
        return delay or 0.0

    def _give_up(self, kept: _Kept, text: str) -> None:
        name, times = kept.child.name, kept.failures_in_a_row
        self._gave_up = self._gave_up or GaveUpError(f"{name} failed {times} times in a row: {text}")
        self._tell(ChildGaveUp(name, times, text))
        self._stopping.set()

    def _hear_of(self, kept: _Kept) -> None:
        """Note that a child has started, failed or ended. The supervisor counts as started after the last."""
        if kept.child.name in self._unheard:
            self._unheard.remove(kept.child.name)
            if not self._unheard:
                self._all_heard()

    def _tell(self, event: Event) -> None:
        try:
            self._hook(event)
        except Exception:  # noqa: BLE001 - the hook is a guest: whatever it raises is logged, and ends nothing
            _log.exception("the supervisor's hook failed on %s", type(event).__name__)


def _is_failure(error: BaseException) -> bool:
    """Return whether a single exception is a child's own failure, rather than a request to end.

    `Exception` alone would miss asyncio's CancelledError, which means nothing to Trio: a child that lets one escape
    must not take its siblings down.
    """
    passing = (trio.Cancelled, KeyboardInterrupt, SystemExit, GeneratorExit)
    return not isinstance(error, (BaseExceptionGroup, *passing))


def _unwrapped(error: BaseException) -> BaseException:
    """Return an error without the groups that hold nothing else."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _describe(error: BaseException, limit: int = 300) -> str:
    """Return type and message of the first errors in a group, on one line of at most `limit` characters."""
    parts = []
    for leaf in islice(_leaves(error), 3):
        try:
            message = " ".join(str(leaf).split())
        except Exception:  # noqa: BLE001 - a broken __str__ must not end the supervisor
            message = "(no text)"
        parts.append(f"{type(leaf).__name__}: {message}".removesuffix(": "))
    text = "; ".join(parts)
    return text if len(text) <= limit else text[: limit - 1] + "…"
