"""How long a page takes that everybody opens, beside an answer that costs nothing.

    python bench/pages.py [--requests 500]

`/healthz` and `/signup` in turn, over one kept connection, so that other work on the machine strikes both alike.
Rendering is what the template takes by itself: a page is to take no more than 1.5 times `/healthz`, and that.
"""

from __future__ import annotations

import argparse
import time

from stand import be_quiet, describe_machine, open_program, percentile, run, short_folder

_PAGES = ("/healthz", "/signup", "/login")


async def main(requests: int) -> None:
    """Ask for each so many times, and print."""
    be_quiet()
    seconds: dict[str, list[float]] = {path: [] for path in _PAGES}
    with short_folder() as folder, open_program(folder, "dev", environ={}) as program:
        client = program.client()
        for number in range(requests + 20):
            for path, taken in seconds.items():
                begun = time.perf_counter()
                status, _, _ = await client.request("GET", path)
                assert status == 200, path  # noqa: S101 - a figure of failures is none
                if number >= 20:  # the first ones compile templates
                    taken.append(time.perf_counter() - begun)
        await client.aclose()
    for path, taken in seconds.items():
        p50, p95 = (percentile(taken, share) * 1000 for share in (0.5, 0.95))
        print(f"{path:<10} p50 {p50:.1f} ms, p95 {p95:.1f} ms of {requests}")
    print(describe_machine())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=500)
    run(main, parser.parse_args().requests)
