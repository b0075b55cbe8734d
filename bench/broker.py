"""Ids through RabbitMQ by regsvc's own client: rates, delays, processor time; version 0.2.0 beside it.

    python bench/broker.py [--ids 10240] [--rounds 3]

Each round runs `bench/broker_side.py` once with each version against the same node. A line is the median of the
rounds, ours first, and ends with ours by the other's.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import trio
from contenders import install_released
from stand import describe_machine, median, open_broker, run

SIDE = Path(__file__).with_name("broker_side.py")


def measure(python: str, url: str, ids: int) -> dict[str, float]:
    """Run one side once."""
    done = subprocess.run([python, str(SIDE), url, str(ids)], check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


async def main(ids: int, rounds: int) -> None:
    """Measure and print."""
    released = install_released()
    sides = [sys.executable, *([str(released[0])] if released else [])]
    found: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    with open_broker() as url:
        for _ in range(rounds):
            for side in sides:
                found[side].append(await trio.to_thread.run_sync(measure, side, url, ids))
    for name in found[sides[0]][0]:
        values = [median([each[name] for each in found[side]]) for side in sides]
        ratio = f"   by the other: {values[0] / values[1]:.2f}" if released else ""
        print(f"{name:<45}" + "".join(f"{value:10.2f}" for value in values) + ratio)
    print(describe_machine())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ids", type=int, default=10_240)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    run(main, chosen.ids, chosen.rounds)
