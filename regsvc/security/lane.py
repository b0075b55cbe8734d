"""A lane for CPU-heavy work: a few threads of low priority behind a bounded queue.

Hashing a password deliberately costs a core a quarter of a second. In ordinary threads, some dozens of logins at once
would starve requests that take a millisecond. So the kernel lets the event loop have its turn before these threads
(see `regsvc.security.cores`), and hashes get the rest of the time, which is all of it when the service is idle. The
lane has its own threads because a lowered priority cannot be raised again, and Trio reuses its threads for other work.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

import trio

from regsvc.errors import OverloadedError
from regsvc.metrics import HASHING_WAIT
from regsvc.security.cores import (
    hashing_threads,
    hurry_own_turns,
    lower_own_priority,
    usable_cores,
)
from regsvc.security.fair_queue import FairQueue
from regsvc.tracing.spans import record

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

T = TypeVar("T")

_NEWEST_WEIGHT = 0.2  # weight of the latest job in the moving estimate; about ten jobs outweigh a hiccup


@dataclass(frozen=True)
class LaneStatistics:
    """A snapshot of a lane.

    Attributes:
        threads: number of its threads.
        busy: threads working at the moment.
        waiting: jobs in the queue.
        done: jobs finished, including those whose caller had left.
        shed: jobs refused.
        cancelled: jobs whose caller left while they were queued or running.
        seconds_each: moving estimate of the time for one job; 0 before the first.
        wait: estimated seconds in the queue for a job that arrives now.
    """

    threads: int
    busy: int
    waiting: int
    done: int
    shed: int
    cancelled: int
    seconds_each: float
    wait: float


class _Job(Generic[T]):
    """A call, and the event that its caller waits for."""

    def __init__(self, function: Callable[[], T], owner: Hashable | None) -> None:
        self.finished = trio.Event()
        self.owner = owner
        self.asked = self.begun = self.ended = time.perf_counter()
        self._function = function
        self._result: T
        self._error: BaseException | None = None

    def do(self) -> None:
        self.begun = time.perf_counter()
        try:
            self._result = self._function()
        except BaseException as error:  # noqa: BLE001 - it belongs to the caller, and the thread must live on
            self._error = error
        self.ended = time.perf_counter()

    def refuse(self, error: Exception) -> None:
        self._error = error
        self.finished.set()

    def result(self) -> T:
        if self._error is not None:
            raise self._error
        return self._result


class Lane:
    """Runs synchronous functions in its own threads, taking turns between owners (see `FairQueue`).

    The queue is bounded in length, since every place holds memory, and in time, since a late answer does not help a
    client that has given up. A caller that is cancelled leaves the queue. If its job is running, the caller leaves at
    once, but the thread cannot be stopped and finishes the job first.

    The threads start with the first job and serve the Trio run of that job, until `aclose`.

    Args:
        threads: their number; None: one per usable processor. With less than one processor, the thread rests between
            jobs, since the kernel would otherwise stop the event loop along with it.
        queue: places in the queue.
        patience: longest expected wait in seconds; a job that would wait longer is refused.
    """

    def __init__(self, *, threads: int | None = None, queue: int = 256, patience: float = 30.0) -> None:
        self._size = threads or hashing_threads()
        self._share = min(1.0, usable_cores())  # share of a processor for each thread
        self._patience = patience
        self._all_ended = trio.Event()
        # The attributes below are shared with the threads, under the condition's lock.
        self._news = threading.Condition()
        self._line: FairQueue[_Job[Any]] = FairQueue(queue)
        self._closed = False
        self._alive = 0
        self._busy = 0
        self._done = 0
        self._shed = 0
        self._cancelled = 0
        self._seconds_each = 0.0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.aclose()

    async def run(
        self, function: Callable[[], T], *, owner: Hashable | None = None, known: bool = False
    ) -> T:
        """Run a function in the lane and return its result, or raise its exception.

        Args:
            function: the function to run.
            owner: owner of the job, such as a client's network; None for no particular owner.
            known: whether the owner has logged in before, which opens reserved places.

        Raises:
            OverloadedError: the queue is full or too slow; `retry_after` is when it should have cleared.
            trio.ClosedResourceError: the lane is closed, or was closed while this waited in the queue.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        job = _Job(function, owner)
        with self._news:
            self._join_line(job, known=known)
        try:
            await job.finished.wait()
        finally:
            if not job.finished.is_set():
                self._leave(job)
        _note_times(job)
        return job.result()

    def statistics(self) -> LaneStatistics:
        """Return a snapshot of the lane."""
        with self._news:
            return LaneStatistics(
                threads=self._size,
                busy=self._busy,
                waiting=len(self._line),
                done=self._done,
                shed=self._shed,
                cancelled=self._cancelled,
                seconds_each=self._seconds_each,
                wait=self._estimate_wait(None),
            )

    async def aclose(self) -> None:
        """Refuse queued jobs, and wait until the threads have finished their current ones and ended.

        Cancellation does not shorten the wait: a thread that returns from native code such as bcrypt's during the
        interpreter's shutdown aborts the process (CPython before 3.14).
        """
        with self._news:
            self._closed = True
            turned_away = self._line.clear()
            running = self._alive > 0
            self._news.notify_all()
        for job in turned_away:
            job.refuse(trio.ClosedResourceError("the lane was closed"))
        if running:
            with trio.CancelScope(shield=True):
                await self._all_ended.wait()
        await trio.lowlevel.checkpoint()

    def _join_line(self, job: _Job[Any], *, known: bool) -> None:
        if self._closed:
            raise trio.ClosedResourceError("the lane is closed")
        wait = self._estimate_wait(job.owner)
        free = self._busy - self._size  # idle threads count as places
        if not self._line.has_place(job.owner, beyond=free, known=known) or wait > self._patience:
            self._shed += 1
            raise OverloadedError(retry_after=max(1.0, wait))
        if not self._alive:
            self._start_threads()
        self._line.add(job.owner, job)
        self._news.notify()

    def _leave(self, job: _Job[Any]) -> None:
        with self._news:
            self._cancelled += 1
            self._line.remove(job.owner, job)  # unless a thread has taken it already

    def _estimate_wait(self, owner: Hashable | None) -> float:
        """Return the estimated seconds in the queue for a job that an owner adds now."""
        ahead = self._busy - self._size + self._line.ahead_of(owner)
        return max(0, ahead + 1) * self._seconds_each / self._size

    def _start_threads(self) -> None:
        token = trio.lowlevel.current_trio_token()
        hurry_own_turns()
        for number in range(self._size):
            threading.Thread(target=self._work, args=(token,), name=f"lane {number}", daemon=True).start()
            self._alive += 1

    def _work(self, token: trio.lowlevel.TrioToken) -> None:
        """Take and run jobs until the lane closes: the body of each thread."""
        lower_own_priority()
        while (job := self._take()) is not None:
            begin, worked = time.perf_counter(), time.thread_time()
            job.do()
            worked = time.thread_time() - worked
            rest = worked / self._share - (time.perf_counter() - begin) if self._share < 1 else 0.0
            self._note_done(time.perf_counter() - begin + max(rest, 0.0))
            self._tell(token, job.finished)
            if rest > 0:
                time.sleep(rest)
            del job  # an idle thread must not hold a password
        with self._news:
            self._alive -= 1
            last = not self._alive
        if last:
            self._tell(token, self._all_ended)

    def _take(self) -> _Job[Any] | None:
        """Wait for the next job; None once the lane is closed."""
        with self._news:
            while not self._line:
                if self._closed:
                    return None
                self._news.wait()
            self._busy += 1
            return self._line.take()

    def _note_done(self, seconds: float) -> None:
        with self._news:
            self._busy -= 1
            self._done += 1
            weight = _NEWEST_WEIGHT if self._seconds_each else 1.0
            self._seconds_each += weight * (seconds - self._seconds_each)

    def _tell(self, token: trio.lowlevel.TrioToken, event: trio.Event) -> None:
        try:
            token.run_sync_soon(event.set)
        except trio.RunFinishedError:  # Trio has ended without closing the lane
            with self._news:
                self._closed = True
                self._line.clear()
                self._news.notify_all()


def _note_times(job: _Job[Any]) -> None:
    if job.ended == job.asked:
        return  # it was refused
    waited, worked = job.begun - job.asked, job.ended - job.begun
    HASHING_WAIT.observe(waited)
    told = time.perf_counter() - job.ended
    record("wait for a hashing thread", waited, seconds_ago=worked + told)
    record("password hash", worked, seconds_ago=told)
