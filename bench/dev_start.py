"""How long `regsvc dev` takes from the command to its first `/readyz` 200, the first time and again.

Also its own processor time until then, which is the same beside other work: without PostgreSQL's.

    python bench/dev_start.py [--starts 5]

The first start creates the database; each later one finds it, after a Ctrl-C.
"""

from __future__ import annotations

import argparse
import time

import trio
from stand import be_quiet, describe_machine, median, open_program, run, short_folder


async def main(starts: int) -> None:
    """Start it so many times and once before, and print."""
    be_quiet()
    seconds, processor = [], []
    with short_folder() as folder:
        for _ in range(1 + starts):
            begun = time.perf_counter()
            with open_program(folder, "dev", environ={}) as program:
                seconds.append(time.perf_counter() - begun)
                processor.append(program.processor_seconds())
            await trio.lowlevel.checkpoint()
    first, *again = seconds
    print(f"first start {first:.2f} s")
    print(
        f"later starts {median(again):.2f} s (median of {starts}, longest {max(again):.2f} s)  (goal: 3 s at most)"
    )
    print(
        f"processor time of later starts {median(processor[1:]):.2f} s besides PostgreSQL's  (goal: 0.6 s at most)"
    )
    print(describe_machine())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--starts", type=int, default=5)
    run(main, parser.parse_args().starts)
