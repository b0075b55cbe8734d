"""How much of what the cores can hash do logins get, and what is left for everybody else meanwhile?

Runs in turn, in one process: bare `bcrypt.checkpw` in a thread pool as wide as the machine, and 64 clients that
verify a password through the lane without pause. Beside the lane a task wakes every 10 ms and notes how late
it is; that is the delay that hashing costs a request. Needs the machine for itself: the lane lets every other
process go first, the pool does not. Where something else runs, `--alike` gives the pool's threads the lane's low
priority, and the ratio then shows what the lane itself costs.

    python bench/hashing.py [--cost 12] [--clients 64] [--each 1] [--rounds 3] [--alike]
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import bcrypt
import trio

from regsvc.security.cores import hashing_threads
from regsvc.security.passwords import HashingLane

PASSWORD = "correct horse battery staple"
BEAT = 0.01  # seconds; more often, and the beats would take time from the hashes


def measure_bare(cost: int, count: int, priority: int) -> float:
    """Verifications a second of bcrypt alone, on every core."""

    def prioritize() -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), priority)

    stored = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(cost))
    with ThreadPoolExecutor(hashing_threads(), initializer=prioritize) as pool:
        begin = time.perf_counter()
        assert all(pool.map(bcrypt.checkpw, [PASSWORD.encode()] * count, [stored] * count))  # noqa: S101 - a bench
        return count / (time.perf_counter() - begin)


async def measure_lane(lane: HashingLane, clients: int, each: int) -> tuple[float, list[float]]:
    """Verifications a second through the lane, and how late every beat beside it was."""
    stored = await lane.hash(PASSWORD)
    late: list[float] = []

    async def client() -> None:
        for _ in range(each):
            verdict = await lane.verify(PASSWORD, stored)
            assert verdict.ok  # noqa: S101 - a bench

    async with trio.open_nursery() as beating:
        beating.start_soon(note_lateness, late)
        begin = time.perf_counter()
        async with trio.open_nursery() as working:
            for _ in range(clients):
                working.start_soon(client)
        seconds = time.perf_counter() - begin
        beating.cancel_scope.cancel()
    return clients * each / seconds, late


async def note_lateness(late: list[float]) -> None:
    """Wake on every beat until cancelled."""
    while True:
        due = time.perf_counter() + BEAT
        await trio.sleep(BEAT)
        late.append(time.perf_counter() - due)


def percentile(values: list[float], share: float) -> float:
    """The value below which that share of them lies."""
    return sorted(values)[math.ceil(share * len(values)) - 1]


async def main(cost: int, clients: int, each: int, rounds: int, priority: int) -> None:
    """Measure in turn and print."""
    idle: list[float] = []
    with trio.move_on_after(2):
        await note_lateness(idle)
    bare: list[float] = []
    through: list[float] = []
    busy: list[float] = []
    async with HashingLane(cost=cost, pepper="a", peppers={"a": b"p" * 32}) as lane:
        for number in range(1, rounds + 1):
            bare.append(measure_bare(cost, clients * each, priority))
            rate, late = await measure_lane(lane, clients, each)
            through.append(rate)
            busy += late
            print(f"round {number}: bare {bare[-1]:.2f}/s, lane {rate:.2f}/s")
        print(lane.statistics())
    print(f"cores {hashing_threads()}, cost {cost}, {clients} clients; load average {os.getloadavg()[0]:.1f}")
    medians, best = statistics.median(through) / statistics.median(bare), max(through) / max(bare)
    print(f"lane / bare: {medians:.3f} by medians, {best:.3f} by the best rounds (goal: 0.95)")
    for name, values in ("idle", idle), ("beside the lane", busy):
        p50, p99 = (1000 * percentile(values, share) for share in (0.5, 0.99))
        print(f"a beat is late by, {name}: p50 {p50:.2f} ms, p99 {p99:.2f} ms")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cost", type=int, default=12)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--each", type=int, default=1, help="verifications a client and round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--alike", action="store_true", help="the pool at the lane's priority")
    chosen = parser.parse_args()
    trio.run(main, chosen.cost, chosen.clients, chosen.each, chosen.rounds, 19 if chosen.alike else 0)
