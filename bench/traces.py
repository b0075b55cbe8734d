"""What traces cost a request in processor time: off, sampled out, a few, and every request, with no collector there.

    python bench/traces.py [--rounds 15] [--seconds 0.3] [--before FOLDER]

All run at the same time on one PostgreSQL and are asked in short windows in turn, as in `bench/me.py`. FOLDER is a
checkout of another version, which is then the measure instead of this one without traces.
"""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import trio
from clock import measure, microseconds, ratio
from contenders import open_regsvc
from me import COST, ME, plan_regsvc
from stand import be_quiet, describe_machine, new_database, open_database, run, serve_settings, short_folder

AWAY = "http://127.0.0.1:9"
PATHS = (ME, "GET /signup", "POST /confirm-email, bad token", "POST /login, the loop alone")
KINDS = {
    "off": {},
    "sampled out": {"traces": "on", "traces_ratio": "0"},
    "20 a second": {"traces": "on"},
    "every request": {"traces": "on", "traces_per_second": "10000"},
}


async def main(rounds: int, seconds: float, before: Path | None) -> None:
    """Start everything, measure in turn and print."""
    be_quiet()
    os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = AWAY
    with short_folder() as folder, ExitStack() as stack:
        async with open_database(folder) as server:
            asked = {}
            kinds = ({"before": {}} if before is not None else {}) | KINDS
            for number, (kind, traces) in enumerate(kinds.items()):
                database = await new_database(server, f"t{number}")
                settings = serve_settings(
                    database,
                    f"maildir:{folder / 'mail'}",
                    bcrypt_cost=str(COST),
                    trusted_proxies="127.0.0.1/32",
                    **traces,
                )
                version = (Path(sys.executable), before) if kind == "before" and before is not None else None
                opened = stack.enter_context(open_regsvc(folder, settings, role="api", released=version))
                plan = await plan_regsvc(opened, database)
                asked |= {(kind, path): plan[path] for path in PATHS}
            found = await trio.to_thread.run_sync(partial(measure, asked, rounds=rounds, seconds=seconds))
            stack.close()
            first = next(iter(kinds))
            print(f"{'us a request (by ' + first + ')':<34}" + "".join(f"{kind:>20}" for kind in kinds))
            for path in PATHS:
                cells = [
                    f"{microseconds(found[kind, path]):.0f} ({ratio(found[kind, path], found[first, path]):.3f})"
                    for kind in kinds
                ]
                print(f"{path:<34}" + "".join(f"{cell:>20}" for cell in cells))
    print(describe_machine())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=0.3, help="length of a window")
    parser.add_argument("--before", type=Path, help="a checkout to compare with")
    chosen = parser.parse_args()
    run(main, chosen.rounds, chosen.seconds, chosen.before)
