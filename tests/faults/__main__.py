"""The command: python -m tests.faults [--minutes 25] [--kills 200] [--seed N] [--short] [--keep] [SECTION ...]."""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
import trio

from tests.faults import figures, held, routes, suite
from tests.faults.events.run import open_run, run_long, run_short
from tests.faults.stage import open_stage
from tests.faults.suite import SECTIONS, Suite

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

tell = partial(print, flush=True)

EVENTS = "events"
FIGURES = {
    "outage": figures.outage,
    "many": figures.many,
    "plan": figures.plan,
    "held": held.held,
    "routes": routes.dying,
    "keys": routes.keyed,
}


@contextmanager
def make_folder(*, keep: bool) -> Iterator[Path]:
    """Hold a folder that a database server, which is never root, may enter."""
    folder = Path(tempfile.mkdtemp(prefix="regsvc-faults-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        if keep:
            tell(f"logs and data are in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


async def run_faults(folder: Path, chosen: argparse.Namespace, sections: Collection[str]) -> list[str]:
    """Run the faults, print the table, and return what is wrong."""
    began = time.monotonic()

    def say(text: str) -> None:
        tell(f"[{time.monotonic() - began:5.0f} s] {text}")

    async with open_stage(folder, folder) as stage:
        run = Suite(stage, say, until=trio.current_time() + chosen.minutes * 60)
        if chosen.short:
            await suite.run_short(run, chosen.seed)
        else:
            rounds, kills = chosen.rounds, chosen.kills
            await suite.run_long(run, sections, rounds=rounds, count=kills, seed=chosen.seed)
        wrong = await run.judge()
        tell(f"\n{run.table()}\n")
        return wrong


async def run_events(folder: Path, chosen: argparse.Namespace) -> list[str]:
    """Kill processes at the moments that matter to an event, print the table, and return what is wrong."""
    began = time.monotonic()

    def say(text: str) -> None:
        tell(f"[{time.monotonic() - began:5.0f} s] {text}")

    async with open_run(folder, folder, say, chosen.seed) as run:
        run.until = trio.current_time() + chosen.minutes * 60
        if chosen.short:
            await run_short(run)
        else:
            await run_long(run, chosen.kills, chosen.seed)
        wrong = await run.judge()
        tell(f"\n{run.books.table()}\n")
        return wrong


def main() -> int:
    """Read the options, run, and return the exit code: 1 when a promise is broken."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults", description="Kill, cut and fill, and keep the books."
    )
    parser.add_argument(
        "sections",
        nargs="*",
        metavar="SECTION",
        help=f"of {', '.join([*SECTIONS, EVENTS, *FIGURES])}; the first nine if none",
    )
    parser.add_argument("--kills", type=int, default=200, help="at random, and of events; 200")
    parser.add_argument("--rounds", type=int, default=3, help="at each moment that matters; 3")
    parser.add_argument("--minutes", type=float, default=25, help="after which no further fault begins; 25")
    parser.add_argument(
        "--seed", type=int, default=random.SystemRandom().randrange(10**6), help="of the kills at random"
    )
    parser.add_argument("--short", action="store_true", help="what the tests run")
    parser.add_argument("--keep", action="store_true", help="keep logs and data")
    chosen = parser.parse_args()
    sections: Collection[str] = chosen.sections or [*SECTIONS, EVENTS]
    if unknown := set(sections) - {*SECTIONS, EVENTS, *FIGURES}:
        parser.error(f"no such section: {', '.join(sorted(unknown))}")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    tell(f"seed {chosen.seed}")
    wrong: list[str] = []
    if any(section in SECTIONS for section in sections):
        with make_folder(keep=chosen.keep) as folder:
            wrong += trio.run(run_faults, folder, chosen, sections)
    if EVENTS in sections:
        with make_folder(keep=chosen.keep) as folder:
            wrong += trio.run(run_events, folder, chosen)
    for name, measure in FIGURES.items():
        if name in sections:
            with make_folder(keep=chosen.keep) as folder:
                found: figures.Finding = trio.run(measure, folder, not chosen.short)
            tell(f"\n{found.text}")
            wrong += found.wrong
    tell("\n".join(["BROKEN:", *wrong]) if wrong else "every promise kept")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
