"""The supervisor, in Trio's virtual time: what seems to take minutes here takes none."""

from __future__ import annotations

import contextvars
import gc
import itertools
import weakref
from contextlib import asynccontextmanager
from dataclasses import FrozenInstanceError
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import pytest
import trio
import trio.testing

from regsvc.supervisor import (
    Backoff,
    Child,
    ChildCancelled,
    ChildFailed,
    ChildGaveUp,
    ChildReturnedError,
    ChildStarted,
    ChildStatistics,
    ChildStopped,
    Event,
    GaveUpError,
    RestartRequested,
    StopRequested,
    Supervisor,
    UnknownChildError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from trio.testing import MockClock

EXACT = Backoff(jitter=0)
E = TypeVar("E")


class Crash(Exception):  # noqa: N818 - it is what happens, and its name shows in the texts below
    """A child's own failure."""


async def serve(stopping: trio.Event, *, task_status: trio.TaskStatus[None]) -> None:
    """Behave: start at once, return when asked."""
    task_status.started()
    await stopping.wait()


async def crash(*, task_status: trio.TaskStatus[None], after: float = 0, start: bool = True) -> None:
    """Crash after so many seconds."""
    if start:
        task_status.started()
    await trio.sleep(after)
    raise Crash("boom")


async def fail(error: BaseException, *, task_status: trio.TaskStatus[None] | None = None) -> None:
    """Fail with exactly this."""
    raise error


class Record:
    """A hook that remembers when it was told what."""

    def __init__(self) -> None:
        self.told: list[tuple[float, Event]] = []
        self.more = trio.Event()

    def __call__(self, event: Event) -> None:
        """Write it down."""
        self.told.append((trio.current_time(), event))
        self.more.set()
        self.more = trio.Event()

    def of(self, kind: type[E]) -> list[E]:
        """The events of one kind."""
        return [event for _, event in self.told if isinstance(event, kind)]

    def times(self, kind: type[Event]) -> list[float]:
        """When the events of one kind came, in seconds from the first of all."""
        begin = self.told[0][0]
        return [at - begin for at, event in self.told if isinstance(event, kind)]

    async def wait_for(self, kind: type[Event], count: int = 1) -> None:
        """Wait until there were so many events of one kind."""
        with trio.fail_after(100_000):
            while len(self.of(kind)) < count:
                await self.more.wait()


@asynccontextmanager
async def supervised(
    *children: Child, stopping: trio.Event, hook: Callable[[Event], None], grace: float = 20
) -> AsyncIterator[Supervisor]:
    """Run a supervisor around a block; stop it afterwards."""
    supervisor = Supervisor(children, stopping=stopping, hook=hook, grace=grace)
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        try:
            yield supervisor
        finally:
            stopping.set()


@pytest.fixture
def stopping() -> trio.Event:
    return trio.Event()


@pytest.fixture
def record() -> Record:
    return Record()


def only(supervisor: Supervisor) -> ChildStatistics:
    (child,) = supervisor.statistics().children
    return child


# --- back-off ---------------------------------------------------------------------------------------------


def test_the_delay_doubles_up_to_its_cap() -> None:
    assert [Backoff().delay(n) for n in range(1, 9)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert [Backoff(cap=2).delay(n) for n in range(1, 5)] == [0.5, 1, 2, 2]
    assert Backoff().delay(100_000) == 30


def test_jitter_only_shortens_so_that_the_cap_holds() -> None:
    assert Backoff().delay(1, 1) == pytest.approx(0.4)
    assert Backoff(cap=2).delay(50, 0.5) == pytest.approx(1.8)


@pytest.mark.parametrize(
    "bad",
    [
        {"initial": 0.0},
        {"initial": -1.0},
        {"initial": 31.0},
        {"cap": float("inf")},
        {"cap": float("nan")},
        {"jitter": 1.1},
        {"jitter": -0.1},
        {"healthy": -1.0},
    ],
)
def test_a_backoff_that_makes_no_sense_is_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="invalid back-off"):
        Backoff(**bad)


# --- starting ---------------------------------------------------------------------------------------------


async def test_it_has_started_when_every_child_has_started_or_failed_once(
    autojump_clock: MockClock, stopping: trio.Event, record: Record
) -> None:
    async def slow(*, task_status: trio.TaskStatus[str]) -> None:
        await trio.sleep(3)
        task_status.started("port 1")
        await stopping.wait()

    begin = trio.current_time()
    children = Child("slow", slow), Child("broken", partial(crash, start=False))
    async with supervised(*children, stopping=stopping, hook=record):
        assert trio.current_time() - begin == 3
    assert record.of(ChildStarted) == [ChildStarted("slow", 1, "port 1")]


async def test_it_has_started_when_it_is_stopped_before_its_children_have(
    autojump_clock: MockClock, stopping: trio.Event
) -> None:
    async def hang(*, task_status: trio.TaskStatus[None]) -> None:
        await trio.sleep_forever()

    supervisor = Supervisor([Child("hang", hang)], stopping=stopping, grace=5)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(nursery.start, supervisor.run)  # would raise if run returned unstarted
        await trio.testing.wait_all_tasks_blocked()
        stopping.set()


async def test_without_children_it_waits_for_the_end(
    autojump_clock: MockClock, stopping: trio.Event, record: Record
) -> None:
    begin = trio.current_time()
    async with supervised(stopping=stopping, hook=record):
        await trio.sleep(1)
        assert record.told == []
    assert record.of(StopRequested)
    assert trio.current_time() - begin == 1


def test_names_must_differ() -> None:
    with pytest.raises(ValueError, match="same name"):
        Supervisor([Child("a", serve), Child("a", serve)], stopping=trio.Event())


async def test_started_twice_is_the_childs_failure(
    autojump_clock: MockClock, stopping: trio.Event, record: Record
) -> None:
    async def eager(*, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        task_status.started()

    async with supervised(Child("eager", eager), stopping=stopping, hook=record):
        await record.wait_for(ChildFailed)
    assert record.of(ChildFailed)[0].text.startswith("RuntimeError: called 'started' twice")


# --- failing and coming back ------------------------------------------------------------------------------


async def test_a_failed_child_is_started_again_after_growing_pauses(
    autojump_clock: MockClock, stopping: trio.Event, record: Record
) -> None:
    async with supervised(Child("c", crash, EXACT), stopping=stopping, hook=record):
        await record.wait_for(ChildFailed, 8)
    failed = record.of(ChildFailed)
    assert [event.delay for event in failed[:8]] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert [event.failures_in_a_row for event in failed[:8]] == list(range(1, 9))
    assert record.times(ChildStarted) == [0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5, 61.5]


async def test_the_pauses_are_jittered(
    autojump_clock: MockClock, stopping: trio.Event, record: Record
) -> None:
    backoff = Backoff(cap=0.5, jitter=0.5)
    async with supervised(Child("c", crash, backoff), stopping=stopping, hook=record):
        await record.wait_for(ChildFailed, 20)
    delays = {event.delay for event in record.of(ChildFailed) if event.delay is not None}
    assert len(delays) > 1
    assert all(0.25 <= delay <= 0.5 for delay in delays)


@pytest.mark.parametrize(("seconds", "in_a_row"), [(59, 2), (60, 1)])
async def test_failures_are_forgotten_after_a_healthy_minute(
    autojump_clock: MockClock, stopping: trio.Event, record: Record, seconds: float, in_a_row: int
) -> None:
    child = Child("c", partial(crash, after=seconds), EXACT)
    async with supervised(child, stopping=stopping, hook=record) as supervisor:
        await record.wait_for(ChildStarted, 2)
        assert only(supervisor).failures_in_a_row == 1
        await record.wait_for(ChildFailed, 2)
        assert only(supervisor).failures == 2
    assert record.of(ChildFailed)[1].failures_in_a_row == in_a_row


async def test_a_long_start_is_not_a_healthy_minute(
    autojump_clock: MockClock, stopping: trio.Event, record: Record
) -> None:
    child = Child("c", partial(crash, after=100, start=False), EXACT)
    async with supervised(child, stopping=stopping, hook=record):
        await record.wait_for(ChildFailed, 3)
    assert [event.failures_in_a_row for event in record.of(ChildFailed)[:3]] == [1, 2, 3]


async def test_a_return_before_the_end_is_a_failure(
    autojump_clock: MockClock, stopping: trio.Event, record: Record
) -> None:
    async def leave(*, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()

    async with supervised(Child("c", leave), stopping=stopping, hook=record):
        await record.wait_for(ChildStarted, 2)
    assert isinstance(record.of(ChildFailed)[0].error, ChildReturnedError)


async def test_errors_arrive_bare_however_deeply_grouped(
    autojump_clock: MockClock, stopping: trio.Event, record: Record
) -> None:
    error = Crash("boom")

    async def nested(*, task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery(), trio.open_nursery() as nursery:
            task_status.started()
            nursery.start_soon(fail, error)

    async with supervised(Child("c", nested), stopping=stopping, hook=record):
        await record.wait_for(ChildFailed)
    assert record.of(ChildFailed)[0].error is error


async def test_several_errors_make_one_failure_and_one_line(
    autojump_clock: MockClock, stopping: trio.Event, record: Record
) -> None:
    class Unspeakable(Exception):  # noqa: N818 - short
        def __str__(self) -> str:
            raise Crash

    async def both(*, task_status: trio.TaskStatus[None]) -> None:
        raise ExceptionGroup("", [Crash("a\nb"), ExceptionGroup("", [Unspeakable(), OSError()])])

    async with supervised(Child("c", both), stopping=stopping, hook=record) as supervisor:
        assert only(supervisor).failures == 1
        assert only(supervisor).last_error == "Crash: a b; Unspeakable: (no text); OSError"


async def test_a_long_text_is_cut(autojump_clock: MockClock, stopping: trio.Event, record: Record) -> None:
    child = Child("c", partial(fail, Crash("x" * 10_000)))
    async with supervised(child, stopping=stopping, hook=record) as supervisor:
        assert len(only(supervisor).last_error or "") == 300


class ForeignCancelledError(BaseException):
    """Like asyncio's, no Exception."""


class StubbornGroup(BaseExceptionGroup[BaseException]):
    """A group that stays a BaseExceptionGroup whatever it holds."""


@pytest.mark.parametrize(
    "error", [ForeignCancelledError(), StubbornGroup("", [Crash()]), BaseExceptionGroup("", [Crash()])]
)
async def test_only_the_wish_to_end_is_no_failure(
    autojump_clock: MockClock, stopping: trio.Event, record: Record, error: BaseException
) -> None:
    child = Child("c", partial(fail, error))
    async with supervised(child, stopping=stopping, hook=record):
        await record.wait_for(ChildFailed, 2)


@pytest.mark.parametrize("wish", [KeyboardInterrupt, SystemExit])
async def test_the_wish_to_end_the_program_passes(
    autojump_clock: MockClock, stopping: trio.Event, record: Record, wish: type[BaseException]
) -> None:
    mixed = BaseExceptionGroup("", [Crash("too"), wish()])
    children = Child("c", partial(fail, mixed)), Child("s", partial(serve, stopping))
    with pytest.raises(BaseExceptionGroup) as caught:
        await Supervisor(children, stopping=stopping, hook=record).run()
    wishes, rest = caught.value.split(wish)
    assert wishes
    assert not rest
    assert record.of(ChildFailed)[0].text == "Crash: too"
    assert len(record.of(ChildStopped)) == 2


async def test_a_child_crashing_a_hundred_times_never_disturbs_its_sibling(
    autojump_clock: MockClock, stopping: trio.Event, record: Record
) -> None:
    lives, work = itertools.count(1), itertools.count()
    done = 0

    async def steady(*, task_status: trio.TaskStatus[None]) -> None:
        nonlocal done
        assert next(lives) == 1
        task_status.started()
        while not stopping.is_set():
            done = next(work)
            await trio.sleep(0.1)

    children = Child("crash", crash, Backoff(cap=0.5, jitter=0)), Child("steady", steady)
    async with supervised(*children, stopping=stopping, hook=record) as supervisor:
        await record.wait_for(ChildFailed, 101)
        crashing, steadily = supervisor.statistics().children
        assert (crashing.failures, crashing.failures_in_a_row, crashing.lives) == (101, 101, 101)
        assert (steadily.failures, steadily.lives, steadily.state) == (0, 1, "running")
        assert done == pytest.approx(500, abs=2)  # 50 s of pauses, and not one beat missed
    assert {event.name for event in record.of(ChildFailed)} == {"crash"}


async def test_thousands_of_failures_leave_nothing_in_memory(
    autojump_clock: MockClock, stopping: trio.Event
) -> None:
    alive: weakref.WeakSet[Exception] = weakref.WeakSet()
    enough = trio.Event()

    class CountedError(Exception):
        def __init__(self) -> None:
            super().__init__()
            alive.add(self)

    async def run(*, task_status: trio.TaskStatus[None]) -> None:
        if only(supervisor).lives == 3000:
            enough.set()
        raise CountedError

    gc.disable()  # not even for a while, in cycles
    try:
        supervisor = Supervisor([Child("c", run, Backoff(cap=0.5))], stopping=stopping)
        async with trio.open_nursery() as nursery:
            await nursery.start(supervisor.run)
            await enough.wait()
            assert len(alive) <= 1
            stopping.set()
    finally:
        gc.enable()


async def test_every_life_has_fresh_context_variables(
    autojump_clock: MockClock, stopping: trio.Event, record: Record
) -> None:
    variable = contextvars.ContextVar("variable", default=0)
    seen: list[int] = []

    async def run(*, task_status: trio.TaskStatus[None]) -> None:
        seen.append(variable.get())
        variable.set(1)
        raise Crash

    async with supervised(Child("c", run), stopping=stopping, hook=record):
        await record.wait_for(ChildFailed, 2)
    assert seen == [0, 0]


# --- giving up --------------------------------------------------------------------------------------------


async def test_giving_up_stops_the_others_in_two_phases_and_raises(
    autojump_clock: MockClock, stopping: trio.Event, record: Record
) -> None:
    finished = trio.Event()

    async def drain(*, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        await stopping.wait()
        await trio.sleep(10)
        finished.set()

    children = Child("http", crash, EXACT, give_up_after=5), Child("drain", drain)
    with pytest.raises(GaveUpError, match="http failed 5 times in a row: Crash: boom"):
        await Supervisor(children, stopping=stopping, hook=record, grace=20).run()
    assert finished.is_set()
    assert [event.delay for event in record.of(ChildFailed)] == [0.5, 1, 2, 4, None]
    assert record.of(ChildGaveUp) == [ChildGaveUp("http", 5, "Crash: boom")]
    assert record.times(ChildStopped) == [7.5, 17.5]


async def test_only_failures_in_a_row_make_it_give_up(
    autojump_clock: MockClock, stopping: trio.Event, record: Record
) -> None:
    child = Child("http", partial(crash, after=60), EXACT, give_up_after=2)
    async with supervised(child, stopping=stopping, hook=record):
        await record.wait_for(ChildFailed, 10)
    assert not record.of(ChildGaveUp)


# --- stopping ---------------------------------------------------------------------------------------------


async def test_children_return_when_asked_and_are_not_started_again(
    autojump_clock: MockClock, stopping: trio.Event, record: Record
) -> None:
    children = Child("a", partial(serve, stopping)), Child("b", partial(serve, stopping))
    async with supervised(*children, stopping=stopping, hook=record) as supervisor:
        pass
    ends = [event for _, event in record.told[2:]]
    assert ends[0] == StopRequested(20)
    assert set(ends[1:]) == {ChildStopped("a"), ChildStopped("b")}
    assert {child.state for child in supervisor.statistics().children} == {"stopped"}
    assert supervisor.statistics().stopping


async def test_who_is_left_after_the_grace_is_cancelled(
    autojump_clock: MockClock, stopping: trio.Event, record: Record
) -> None:
    async def deaf(*, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        await trio.sleep_forever()

    children = Child("deaf", deaf), Child("good", partial(serve, stopping))
    async with supervised(*children, stopping=stopping, hook=record, grace=20):
        pass
    assert record.of(ChildCancelled) == [ChildCancelled("deaf")]
    assert record.times(ChildCancelled) == [20]
    assert record.times(ChildStopped) == [0, 20]
    assert not record.of(ChildFailed)


async def test_a_child_in_its_pause_stops_at_once(
    autojump_clock: MockClock, stopping: trio.Event, record: Record
) -> None:
    child = Child("c", crash, Backoff(initial=30, jitter=0))
    async with supervised(child, stopping=stopping, hook=record) as supervisor:
        await trio.sleep(1)
        assert (only(supervisor).state, only(supervisor).next_try) == ("waiting", 29)
    assert record.times(ChildStopped) == [1]
    assert not record.of(ChildCancelled)


async def test_a_child_that_fails_while_stopping_is_told_and_not_started_again(
    autojump_clock: MockClock, stopping: trio.Event, record: Record
) -> None:
    async def stumble(*, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        await stopping.wait()
        raise Crash("on the way out")

    async with supervised(Child("c", stumble, give_up_after=1), stopping=stopping, hook=record):
        pass
    (failed,) = record.of(ChildFailed)
    assert (failed.text, failed.delay, failed.failures_in_a_row) == ("Crash: on the way out", None, 0)
    assert len(record.of(ChildStarted)) == 1
    assert not record.of(ChildGaveUp)


async def test_a_child_may_return_unstarted_once_the_end_has_come(
    autojump_clock: MockClock, stopping: trio.Event, record: Record
) -> None:
    async def connecting(*, task_status: trio.TaskStatus[None]) -> None:
        await stopping.wait()

    supervisor = Supervisor([Child("c", connecting)], stopping=stopping, hook=record)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.run)
        await trio.testing.wait_all_tasks_blocked()
        stopping.set()
    assert not record.of(ChildFailed)


async def test_a_cancellation_from_outside_ends_it_at_once(
    autojump_clock: MockClock, stopping: trio.Event, record: Record
) -> None:
    with trio.CancelScope() as scope:
        async with supervised(Child("c", partial(serve, stopping)), stopping=stopping, hook=record):
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert record.of(ChildStopped)
    assert not record.of(ChildFailed)


async def test_a_cancellation_of_the_start_ends_it_at_once(
    autojump_clock: MockClock, stopping: trio.Event, record: Record
) -> None:
    async def hang(*, task_status: trio.TaskStatus[None]) -> None:
        await trio.sleep_forever()

    supervisor = Supervisor([Child("hang", hang)], stopping=stopping, hook=record)
    with trio.move_on_after(1) as scope:
        async with trio.open_nursery() as nursery:
            await nursery.start(supervisor.run)
    assert scope.cancelled_caught
    assert record.of(ChildStopped)


async def test_a_supervisor_can_be_a_child(
    autojump_clock: MockClock, stopping: trio.Event, record: Record
) -> None:
    inner = Supervisor([Child("leaf", partial(serve, stopping))], stopping=stopping, hook=record)
    async with supervised(Child("inner", inner.run), stopping=stopping, hook=record):
        pass
    assert [event.name for event in record.of(ChildStarted)] == ["leaf", "inner"]
    assert [event.name for event in record.of(ChildStopped)] == ["leaf", "inner"]


# --- the hook, the operator, the figures ------------------------------------------------------------------


async def test_a_hook_that_raises_ends_nothing_and_is_logged(
    autojump_clock: MockClock, stopping: trio.Event, caplog: pytest.LogCaptureFixture
) -> None:
    def hook(event: Event) -> None:
        raise Crash("hook")

    children = Child("c", crash), Child("s", partial(serve, stopping))
    async with supervised(*children, stopping=stopping, hook=hook) as supervisor:
        await trio.sleep(10)
        crashing, serving = supervisor.statistics().children
        assert crashing.lives > 2
        assert (serving.state, serving.lives) == ("running", 1)
    assert "hook failed on ChildFailed" in caplog.text


async def test_an_operators_restart_is_at_once_and_no_failure(
    autojump_clock: MockClock, stopping: trio.Event, record: Record
) -> None:
    children = Child("a", partial(serve, stopping)), Child("b", partial(serve, stopping))
    async with supervised(*children, stopping=stopping, hook=record) as supervisor:
        supervisor.restart("a")
        await record.wait_for(ChildStarted, 3)
        a, b = supervisor.statistics().children
        assert (a.lives, a.failures, b.lives) == (2, 0, 1)
    assert record.of(RestartRequested) == [RestartRequested("a")]
    assert record.times(ChildStarted) == [0, 0, 0]
    assert not record.of(ChildFailed)


async def test_an_operators_restart_ends_a_pause_and_forgets(
    autojump_clock: MockClock, stopping: trio.Event, record: Record
) -> None:
    child = Child("c", crash, Backoff(initial=30, jitter=0))
    async with supervised(child, stopping=stopping, hook=record) as supervisor:
        await trio.sleep(1)
        supervisor.restart("c")
        await record.wait_for(ChildFailed, 2)
    assert record.times(ChildStarted) == [0, 1]
    assert [event.failures_in_a_row for event in record.of(ChildFailed)] == [1, 1]


async def test_falling_over_a_restart_is_told_but_not_held_against_the_child(
    autojump_clock: MockClock, stopping: trio.Event, record: Record
) -> None:
    async def clumsy(*, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        try:
            await trio.sleep_forever()
        finally:
            raise Crash("in the cleanup")

    async with supervised(Child("c", clumsy), stopping=stopping, hook=record, grace=0) as supervisor:
        supervisor.restart("c")
        await record.wait_for(ChildStarted, 2)
        assert record.times(ChildStarted) == [0, 0]
        assert record.of(ChildFailed)[0].delay == 0
        assert only(supervisor).failures_in_a_row == 0


async def test_returning_instead_of_being_cancelled_by_a_restart_is_no_failure(
    autojump_clock: MockClock, stopping: trio.Event, record: Record
) -> None:
    lives, finish = itertools.count(), trio.Event()

    async def finishes_first(*, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        with trio.CancelScope(shield=True):
            await (finish if next(lives) == 0 else stopping).wait()

    async with supervised(Child("c", finishes_first), stopping=stopping, hook=record) as supervisor:
        supervisor.restart("c")
        finish.set()
        await record.wait_for(ChildStarted, 2)
    assert not record.of(ChildFailed)


async def test_a_hook_may_ask_for_the_restart(
    autojump_clock: MockClock, stopping: trio.Event, record: Record
) -> None:
    def hook(event: Event) -> None:
        record(event)
        if isinstance(event, ChildFailed) and len(record.of(ChildFailed)) == 1:
            supervisor.restart("c")

    supervisor = Supervisor([Child("c", crash, Backoff(initial=30))], stopping=stopping, hook=hook)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.run)
        await record.wait_for(ChildFailed, 2)
        stopping.set()
    assert record.times(ChildStarted) == [0, 0]


async def test_a_restart_while_stopping_does_nothing(
    autojump_clock: MockClock, stopping: trio.Event, record: Record
) -> None:
    async with supervised(Child("c", partial(serve, stopping)), stopping=stopping, hook=record) as supervisor:
        stopping.set()
        supervisor.restart("c")
    assert len(record.of(ChildStarted)) == 1
    assert not record.of(RestartRequested)


async def test_restarting_an_unknown_child_names_those_there_are(
    autojump_clock: MockClock, stopping: trio.Event
) -> None:
    supervisor = Supervisor([Child("http", serve), Child("relay", serve)], stopping=stopping)
    with pytest.raises(UnknownChildError) as caught:
        supervisor.restart("htttp")
    assert str(caught.value) == "no child is called 'htttp'; the children are http, relay"


async def test_statistics_are_a_snapshot_that_nobody_can_change(
    autojump_clock: MockClock, stopping: trio.Event, record: Record
) -> None:
    async def slow(*, task_status: trio.TaskStatus[None]) -> None:
        await trio.sleep(2)
        task_status.started()
        await trio.sleep(3)
        raise Crash("boom")

    def at(seconds: float) -> Awaitable[None]:
        return trio.sleep_until(begin + seconds)

    supervisor = Supervisor([Child("c", slow, Backoff(initial=4, jitter=0))], stopping=stopping, hook=record)
    begin = trio.current_time()
    unbegun = supervisor.statistics()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.run)
        await at(1)
        assert only(supervisor) == ChildStatistics("c", "starting", 1, 1, 0, 0, None, None)
        await at(4)
        running = only(supervisor)
        assert running == ChildStatistics("c", "running", 2, 1, 0, 0, None, None)
        await at(6)
        assert only(supervisor) == ChildStatistics("c", "waiting", 1, 1, 1, 1, "Crash: boom", 3)
        stopping.set()
    assert only(supervisor) == ChildStatistics("c", "stopped", 0, 1, 1, 1, "Crash: boom", None)
    assert unbegun.children == (ChildStatistics("c", "starting", 0, 0, 0, 0, None, None),)
    with pytest.raises(FrozenInstanceError):
        running.state = "stopped"  # type: ignore[misc]  # that is what is refused


async def test_statistics_forget_too(autojump_clock: MockClock, stopping: trio.Event, record: Record) -> None:
    lives = itertools.count()

    async def run(*, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        if next(lives) == 0:
            raise Crash
        await stopping.wait()

    async with supervised(Child("c", run, EXACT), stopping=stopping, hook=record) as supervisor:
        await record.wait_for(ChildStarted, 2)
        await trio.sleep(59)
        assert only(supervisor).failures_in_a_row == 1
        await trio.sleep(1)
        assert (only(supervisor).failures_in_a_row, only(supervisor).failures) == (0, 1)
