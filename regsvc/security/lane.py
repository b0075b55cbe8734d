"""A lane for heavy work: a few threads of low priority, and a bounded line in front of them.

Hashing a password costs a core a quarter of a second on purpose. Done in threads like any others, some dozens of
logins at once starve everything that is answered in a millisecond; done in these, the kernel serves the rest
first, and the hashes get what is left, which is all of it when the rest is idle. The threads are the lane's own:
a priority cannot be raised again, and Trio lends its threads to anything.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

import trio

from regsvc.errors import OverloadedError
from regsvc.security.cores import hashing_threads, lower_own_priority, usable_cores
from regsvc.security.fair_queue import FairQueue

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

T = TypeVar("T")

_NEWEST_WEIGHT = 0.2  # of the latest job in the moving estimate: some ten jobs forget a hiccup


@dataclass(frozen=True)
class LaneStatistics:
    """How a lane stands.

    Attributes:
        threads: that work for it.
        busy: of them, at this moment.
        waiting: jobs in line.
        done: jobs finished, whether or not somebody still wanted the result.
        shed: jobs turned away.
        cancelled: jobs whose caller left, in line or while it was being done.
        seconds_each: moving estimate of what one job takes; 0 before the first.
        wait: estimate of the seconds that a job coming now would spend in line.
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
    """One call, and the event on which its caller waits."""

    def __init__(self, function: Callable[[], T], owner: Hashable | None) -> None:
        self.finished = trio.Event()
        self.owner = owner
        self._function = function
        self._result: T
        self._error: BaseException | None = None

    def do(self) -> None:
        try:
            self._result = self._function()
        except BaseException as error:  # noqa: BLE001 - it belongs to the caller, and the thread must live on
            self._error = error

    def refuse(self, error: Exception) -> None:
        self._error = error
        self.finished.set()

    def result(self) -> T:
        if self._error is not None:
            raise self._error
        return self._result


class Lane:
    """Runs synchronous functions in threads of its own, one owner's after the other's (see `FairQueue`).

    The line is bounded twice: in length, since every place holds memory, and in time, since an answer is no use
    to somebody who has given up. A caller who is cancelled in line leaves it; one whose job is being done leaves
    too, but the thread cannot be stopped, finishes the job and only then takes the next.

    The threads start with the first job and serve the Trio run of that job, until `aclose`.

    Args:
        threads: how many; None: as many as this process may use processors. Where that is less than one, the thread
            rests between jobs, or the kernel would stop the event loop along with it.
        queue: places in line.
        patience: seconds that a job may expect to wait in line; who would wait longer is turned away.
    """

    def __init__(self, *, threads: int | None = None, queue: int = 256, patience: float = 30.0) -> None:
        self._size = threads or hashing_threads()
        self._share = min(1.0, usable_cores())  # of a processor, for each thread
        self._patience = patience
        self._all_ended = trio.Event()
        # What follows is shared with the threads, under the lock of the condition.
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
        """Run a function in the lane; its result, or what it raises.

        Args:
            function: what to run.
            owner: whose job it is, such as a client's network; None: nobody's in particular.
            known: the owner has logged in before; some places are kept for such.

        Raises:
            OverloadedError: the line is full or too slow; `retry_after` is when it should be gone.
            trio.ClosedResourceError: the lane is closed, or was while this waited in line.
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
        return job.result()

    def statistics(self) -> LaneStatistics:
        """How the lane stands at this moment."""
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
        """Turn away who is in line, and wait until the threads have finished what they have in hand and ended.

        No cancellation shortens that: a thread that comes back from native code such as bcrypt's while the
        interpreter is being torn down aborts the process (CPython before 3.14).
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
        free = self._busy - self._size  # threads that are idle are places, too
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
            self._line.remove(job.owner, job)  # unless a thread has it already

    def _estimate_wait(self, owner: Hashable | None) -> float:
        """Seconds that a job of an owner, coming now, would spend in line."""
        ahead = self._busy - self._size + self._line.ahead_of(owner)
        return max(0, ahead + 1) * self._seconds_each / self._size

    def _start_threads(self) -> None:
        token = trio.lowlevel.current_trio_token()
        for number in range(self._size):
            threading.Thread(target=self._work, args=(token,), name=f"lane {number}", daemon=True).start()
            self._alive += 1

    def _work(self, token: trio.lowlevel.TrioToken) -> None:
        """What a thread does all its life."""
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
            del job  # an idle thread remembers no password
        with self._news:
            self._alive -= 1
            last = not self._alive
        if last:
            self._tell(token, self._all_ended)

    def _take(self) -> _Job[Any] | None:
        """Wait for the next job; None: there will be none."""
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
        except trio.RunFinishedError:  # nobody closed the lane, and nobody can any more
            with self._news:
                self._closed = True
                self._line.clear()
                self._news.notify_all()
