"""One side of `bench/broker.py`: publish and consume ids with this interpreter's regsvc, and print what it took."""

from __future__ import annotations

import json
import statistics
import sys
import time
from uuid import uuid4

import structlog
import trio

from regsvc.rabbitmq import open_consumer, open_publisher

BATCH = 256


async def measure(url: str, count: int) -> dict[str, float]:
    """Return rates a second, microseconds of processor time a message, and milliseconds of single messages."""
    found: dict[str, float] = {}
    async with open_publisher(url) as publisher:
        began, used = time.perf_counter(), time.process_time()
        for _ in range(count // BATCH):
            result = await publisher.publish([uuid4() for _ in range(BATCH)])
            assert not result.failed, result  # noqa: S101 - a bench of failures says nothing
        note(found, "published", count // BATCH * BATCH, began, used)
        async with open_consumer(url, prefetch=64, on_malformed=print) as consumer:
            began, used, taken = time.perf_counter(), time.process_time(), 0
            while taken < count // BATCH * BATCH:
                batch = await consumer.receive(64)
                await consumer.ack(batch)
                taken += len(batch)
            note(found, "consumed", taken, began, used)
            confirms, arrivals = [], []
            for _ in range(200):
                began = time.perf_counter()
                await publisher.publish([uuid4()])
                confirms.append(time.perf_counter() - began)
                await consumer.ack(await consumer.receive(1))
                arrivals.append(time.perf_counter() - began)
    found["one id confirmed, p50 ms"] = statistics.median(confirms) * 1e3
    found["one id received, p50 ms"] = statistics.median(arrivals) * 1e3
    return found


def note(found: dict[str, float], what: str, count: int, began: float, used: float) -> None:
    """Note what so many messages took."""
    found[f"{what} a second"] = count / (time.perf_counter() - began)
    found[f"{what}, us of processor time each"] = (time.process_time() - used) * 1e6 / count


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    print(json.dumps(trio.run(measure, sys.argv[1], int(sys.argv[2]))))
