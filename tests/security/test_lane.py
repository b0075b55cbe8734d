"""The lane: jobs are held by events of the test's own, so that nothing here depends on how fast anything is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import FrozenInstanceError
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from regsvc.errors import OverloadedError
from regsvc.security import cores
from regsvc.security.cores import hashing_threads
from regsvc.security.lane import Lane

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DEADLINE = 10.0  # seconds for what should be immediate


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    """Every lane here ends its threads."""
    yield
    for thread in lane_threads():
        thread.join(DEADLINE)
    assert not lane_threads()


def lane_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("lane ")]


class Hold:
    """A job that lasts until it is released."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.released = threading.Event()

    def __call__(self) -> str:
        """Do the job."""
        self.begun.set()
        assert self.released.wait(DEADLINE)
        return "done"


@contextmanager
def holding(hold: Hold) -> Iterator[Hold]:
    """Release it whatever happens, or its thread would outlive the test."""
    try:
        yield hold
    finally:
        hold.released.set()


async def wait_until(true: Callable[[], bool]) -> None:
    """Wait, with a deadline, for what another thread brings about."""
    with trio.fail_after(DEADLINE):
        while not true():  # noqa: ASYNC110 - threads and line have no Trio event for a bystander
            await trio.sleep(0.001)


async def test_a_job_returns_its_result_or_raises_its_error() -> None:
    async with Lane(threads=1) as lane:
        assert await lane.run(lambda: 42) == 42
        with pytest.raises(ZeroDivisionError):
            await lane.run(lambda: 1 // 0)
        with pytest.raises(SystemExit):  # raised for the caller: the thread lives on
            await lane.run(sys.exit)
        assert await lane.run(lambda: 43) == 43


async def test_the_first_to_come_is_the_first_served() -> None:
    order: list[int] = []
    async with Lane(threads=1) as lane, trio.open_nursery() as nursery:
        with holding(Hold()) as hold:
            nursery.start_soon(lane.run, hold)
            await wait_until(hold.begun.is_set)
            for number in range(20):
                nursery.start_soon(lane.run, partial(order.append, number))
                await wait_until(lambda number=number: lane.statistics().waiting == number + 1)  # type: ignore[misc]  # mypy cannot infer a default's type here
    assert order == list(range(20))


async def test_as_many_jobs_are_done_at_once_as_there_are_threads() -> None:
    holds = [Hold() for _ in range(3)]
    async with Lane(threads=2) as lane, trio.open_nursery() as nursery:
        with holding(holds[0]), holding(holds[1]), holding(holds[2]):
            for hold in holds:
                nursery.start_soon(lane.run, hold)
            await wait_until(lambda: sum(hold.begun.is_set() for hold in holds) == 2)
            assert (lane.statistics().busy, lane.statistics().waiting) == (2, 1)


def test_by_default_there_are_as_many_threads_as_cores() -> None:
    assert Lane().statistics().threads == hashing_threads() >= 1


@pytest.mark.skipif(sys.platform != "linux", reason="threads have a priority of their own on Linux")
async def test_its_threads_have_a_lower_priority_and_nobody_elses_changes() -> None:
    def priority() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    before = priority()
    async with Lane(threads=1) as lane:
        assert await lane.run(priority) == min(before + cores.NICE, 19) > before
        assert await trio.to_thread.run_sync(priority) == before
    assert priority() == before


SLICE = """
import ctypes, os, struct, sys, threading, trio
from regsvc.security.lane import Lane

def slice_of():
    buffer = ctypes.create_string_buffer(48)
    number = {"x86_64": 315, "aarch64": 275}[os.uname().machine]
    if ctypes.CDLL(None).syscall(number, 0, buffer, 48, 0):
        sys.exit("sched_getattr is not there")
    return struct.unpack("=IIQiIQQQ", buffer.raw)[5]

async def main():
    usual = slice_of()
    async with Lane(threads=1) as lane:
        hashing = await lane.run(slice_of)
        other = await trio.to_thread.run_sync(slice_of)
    print(usual, slice_of(), hashing, other)

trio.run(main)
"""


@pytest.mark.skipif(
    sys.platform != "linux" or tuple(map(int, re.findall(r"\d+", os.uname().release)[:2])) < (6, 12),
    reason="slices of threads came with Linux 6.12",
)
def test_the_event_loop_has_short_turns_and_hashing_long_ones() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SLICE], capture_output=True, text=True, check=True, timeout=30
    )
    usual, loop, hashing, other = map(int, done.stdout.split())
    assert (loop, hashing) == (100_000, 100_000_000)
    assert loop < other == usual < hashing


async def test_it_costs_no_thread_before_the_first_job() -> None:
    async with Lane(threads=2) as lane:
        assert lane_threads() == []
        await lane.run(int)
        assert len(lane_threads()) == 2
        assert all(thread.daemon for thread in lane_threads())


async def test_who_finds_the_line_full_is_turned_away_with_a_time_to_come_back() -> None:
    async with Lane(threads=1, queue=2) as lane, trio.open_nursery() as nursery:
        await lane.run(int)
        lane._seconds_each = 7.0
        with holding(Hold()) as hold:
            nursery.start_soon(lane.run, hold)
            await wait_until(hold.begun.is_set)
            nursery.start_soon(lane.run, int)
            nursery.start_soon(lane.run, int)
            await wait_until(lambda: lane.statistics().waiting == 2)
            with pytest.raises(OverloadedError) as caught:
                await lane.run(int)
            assert caught.value.retry_after == 21
            assert lane.statistics().shed == 1
    assert lane.statistics().done == 4


async def test_who_would_wait_too_long_is_turned_away() -> None:
    async with Lane(threads=2, patience=10) as lane, trio.open_nursery() as nursery:
        lane._seconds_each = 9.0
        with holding(Hold()) as first, holding(Hold()) as second:
            nursery.start_soon(lane.run, first)
            nursery.start_soon(lane.run, second)
            await wait_until(lambda: lane.statistics().busy == 2)
            nursery.start_soon(lane.run, int)  # in 4.5 s
            nursery.start_soon(lane.run, int)  # in 9 s
            await wait_until(lambda: lane.statistics().waiting == 2)
            with pytest.raises(OverloadedError):
                await lane.run(int)
            assert lane.statistics().wait == 13.5


async def test_an_idle_thread_takes_a_job_whatever_the_bounds() -> None:
    async with Lane(threads=1, queue=0, patience=0) as lane:
        lane._seconds_each = 1000.0
        assert await lane.run(int) == 0
        assert lane.statistics().seconds_each < 1000  # which is how it recovers from an estimate gone wrong


async def test_the_estimate_begins_with_the_first_job_and_moves() -> None:
    async with Lane(threads=3) as lane:
        assert lane.statistics().seconds_each == 0
        await lane.run(int)
        first = lane.statistics().seconds_each
        lane._seconds_each = 100.0
        await lane.run(int)
        assert 0 < first < 70 < lane.statistics().seconds_each < 100
        assert lane.statistics().wait == 0  # somebody is idle


async def test_who_is_cancelled_in_line_leaves_it_and_the_job_is_never_done() -> None:
    done: list[str] = []
    async with Lane(threads=1, queue=1) as lane, trio.open_nursery() as nursery:
        with holding(Hold()) as hold:
            nursery.start_soon(lane.run, hold)
            await wait_until(hold.begun.is_set)
            async with trio.open_nursery() as leaving:
                leaving.start_soon(lane.run, partial(done.append, "left"))
                await wait_until(lambda: lane.statistics().waiting == 1)
                leaving.cancel_scope.cancel()
            assert (lane.statistics().waiting, lane.statistics().cancelled) == (0, 1)
            nursery.start_soon(lane.run, partial(done.append, "stayed"))  # the place is free
    assert done == ["stayed"]


async def test_who_is_cancelled_while_the_job_is_done_leaves_but_frees_nothing() -> None:
    async with Lane(threads=1) as lane, trio.open_nursery() as nursery:
        with holding(Hold()) as hold:
            async with trio.open_nursery() as leaving:
                leaving.start_soon(lane.run, hold)
                await wait_until(hold.begun.is_set)
                leaving.cancel_scope.cancel()  # and the block ends although the job does not
            after = Hold()
            after.released.set()
            nursery.start_soon(lane.run, after)
            await wait_until(lambda: lane.statistics().waiting == 1)
            assert (lane.statistics().busy, after.begun.is_set()) == (1, False)
    assert (lane.statistics().done, lane.statistics().cancelled) == (2, 1)
    assert after.begun.is_set()


async def test_who_is_cancelled_already_does_not_even_join() -> None:
    async with Lane(threads=1) as lane:
        with trio.CancelScope() as scope:
            scope.cancel()
            await lane.run(int)
        assert scope.cancelled_caught
        assert (lane.statistics().waiting, lane.statistics().cancelled) == (0, 0)


async def test_closing_turns_the_line_away_and_finishes_what_is_in_hand() -> None:
    results: list[str] = []

    async def hold_on() -> None:
        results.append(await lane.run(hold))

    async def wait_in_line() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await lane.run(int)
        results.append("turned away")

    async def close() -> None:
        await lane.aclose()
        assert lane.statistics().busy == 0  # not before what is in hand is done

    lane = Lane(threads=1)
    with trio.fail_after(DEADLINE), holding(Hold()) as hold:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hold_on)
            await wait_until(hold.begun.is_set)
            nursery.start_soon(wait_in_line)
            await wait_until(lambda: lane.statistics().waiting == 1)
            nursery.start_soon(close)
            await wait_until(lambda: results == ["turned away"])
            hold.released.set()
    assert results == ["turned away", "done"]
    with pytest.raises(trio.ClosedResourceError):
        await lane.run(int)
    await lane.aclose()  # once more is no mistake


async def test_a_closing_that_is_cancelled_still_waits_for_what_is_in_hand() -> None:
    async def release() -> None:
        await trio.testing.wait_all_tasks_blocked()
        hold.released.set()

    lane = Lane(threads=1)
    async with trio.open_nursery() as bystander:
        with holding(Hold()) as hold:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lane.run, hold)
                await wait_until(hold.begun.is_set)
                bystander.start_soon(release)
                nursery.cancel_scope.cancel()
                try:
                    await lane.aclose()
                finally:
                    assert hold.released.is_set()
                    assert lane.statistics().busy == 0
    with pytest.raises(trio.ClosedResourceError):
        await lane.run(int)


def test_threads_end_by_themselves_when_trio_has_ended_without_closing() -> None:
    lane, hold = Lane(threads=2), Hold()

    async def leave_it_open() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lane.run, hold)
            await wait_until(hold.begun.is_set)
            nursery.cancel_scope.cancel()

    with holding(hold):
        trio.run(leave_it_open)
        assert len(lane_threads()) == 2
    # the fixture waits for them


async def test_statistics_are_a_snapshot_that_nobody_can_change() -> None:
    async with Lane(threads=1) as lane:
        before = lane.statistics()
        await lane.run(int)
        assert (before.done, lane.statistics().done) == (0, 1)
        with pytest.raises(FrozenInstanceError):
            before.done = 5  # type: ignore[misc]  # that is what is refused


async def test_a_client_who_fills_the_line_delays_another_by_one_job() -> None:
    order: list[str] = []
    async with Lane(threads=1, queue=64) as lane, trio.open_nursery() as nursery:
        with holding(Hold()) as hold:
            nursery.start_soon(lane.run, hold)
            await wait_until(hold.begun.is_set)
            for _ in range(5):
                nursery.start_soon(partial(lane.run, partial(order.append, "greedy"), owner="greedy"))
            await wait_until(lambda: lane.statistics().waiting == 5)
            nursery.start_soon(partial(lane.run, partial(order.append, "honest"), owner="honest"))
            await wait_until(lambda: lane.statistics().waiting == 6)
    assert order.index("honest") == 1


async def test_a_client_of_its_own_share_is_turned_away_while_others_have_places() -> None:
    async with Lane(threads=1, queue=64) as lane, trio.open_nursery() as nursery:
        with holding(Hold()) as hold:
            nursery.start_soon(lane.run, hold)
            await wait_until(hold.begun.is_set)
            for _ in range(8):
                nursery.start_soon(partial(lane.run, int, owner="greedy"))
            await wait_until(lambda: lane.statistics().waiting == 8)
            with pytest.raises(OverloadedError):
                await lane.run(int, owner="greedy")
            nursery.start_soon(partial(lane.run, int, owner="honest"))
            await wait_until(lambda: lane.statistics().waiting == 9)


@pytest.mark.parametrize(
    ("cores", "worked", "lasted", "rests"),
    [
        (0.5, 0.25, 0.25, [0.25]),
        (0.25, 0.25, 0.25, [0.75]),
        (0.5, 0.25, 0.375, [0.125]),  # it was made to wait for a processor, which is rest as well
        (0.5, 0.25, 0.75, []),
        (1.0, 0.25, 0.25, []),
        (8.0, 0.25, 0.25, []),
    ],
)
async def test_with_less_than_a_processor_the_thread_rests_for_what_others_shall_have_of_it(
    monkeypatch: pytest.MonkeyPatch, cores: float, worked: float, lasted: float, rests: list[float]
) -> None:
    clock = SimpleNamespace(wall=0.0, cpu=0.0)
    asked: list[float] = []
    times = SimpleNamespace(
        perf_counter=lambda: clock.wall, thread_time=lambda: clock.cpu, sleep=asked.append
    )
    monkeypatch.setattr("regsvc.security.lane.time", times)
    monkeypatch.setattr("regsvc.security.lane.usable_cores", lambda: cores)

    def work() -> None:
        clock.cpu += worked
        clock.wall += lasted

    async with Lane(threads=1) as lane:
        await lane.run(work)
        assert lane.statistics().seconds_each == lasted + sum(rests)  # the next one waits for the rest, too
    assert asked == rests
