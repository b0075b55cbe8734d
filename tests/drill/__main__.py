"""Lose a database and restore it, in each of the ways that docs/backup.md describes: `make drill`.

    python -m tests.drill [--waiting 20]

Servers, program and mail server are private ones on loopback, and end with this program.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import structlog
import trio

from tests.databases import make_short_directory
from tests.drill.before import Lost, MailServer, live_and_lose
from tests.drill.restoring import Found, restore
from tests.drill.servers import Grounds

WAYS = (("dump, nothing done", "dump", False), ("dump", "dump", True), ("base and log", "log", True))


def show(rows: Sequence[tuple[str, Sequence[object]]]) -> str:
    """Return a table, each row with its figures for each way."""
    head = " " * 45 + "".join(f"{name:>20}" for name, *_ in WAYS)
    return "\n".join([head, *(f"{what:45}" + "".join(f"{each!s:>20}" for each in row) for what, row in rows)])


def describe(lost: Lost, found: Sequence[Found]) -> list[tuple[str, Sequence[object]]]:
    """Return what was found, row by row."""
    return [
        ("database back after, s", [f"{each.seconds:.1f}" for each in found]),
        ("sign-ups lost", [each.missing for each in found]),
        ("regsvc verify, exit code", [each.verified for each in found]),
        ("the same with a wrong secret", [each.verified_wrong for each in found]),
        ("login with password and code", [each.login for each in found]),
        ("a session that had ended", [each.ended_session for each in found]),
        ("a link mailed after the backup", [each.link for each in found]),
        ("mails that are due", [len(each.due) for each in found]),
        ("  sent before, by the log, and cancelled", [each.cancelled for each in found]),
        ("  sent", [sum(each.sent.values()) for each in found]),
        ("  sent for the second time", [len(set(each.sent) & lost.sent_since) for each in found]),
        ("  sent twice after the restore", [sum(n > 1 for n in each.sent.values()) for each in found]),
    ]


def judge(lost: Lost, careless: Found, dumped: Found, logged: Found) -> bool:
    """Return whether all is as docs/backup.md promises."""
    each = (careless, dumped, logged)
    return (
        all(
            (found.verified, found.verified_wrong, found.login, found.link) == (0, 1, 200, 200)
            for found in each
        )
        and all(set(found.sent.values()) <= {1} for found in each)
        and set(careless.sent) == careless.due == dumped.due == lost.backed_up
        and set(dumped.sent) == dumped.due - lost.sent_since
        and set(logged.sent) == logged.due == lost.due
        and (logged.missing, logged.ended_session) == (0, 401)
    )


async def main(waiting: int) -> bool:
    """Rehearse, print, and return whether all went as promised."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    with make_short_directory() as root, tempfile.TemporaryDirectory() as name:
        grounds, folder = Grounds(root), Path(name)
        async with MailServer().running() as server:
            lost = await live_and_lose(grounds, server, folder, waiting=waiting)
            found = [
                await restore(way, grounds, server, folder, lost, careful=careful) for _, way, careful in WAYS
            ]
    print(show(describe(lost, found)))  # noqa: T201 - the table is what this program is for
    return judge(lost, *found)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--waiting", type=int, default=20, help="sign-ups whose mail waits at the backup")
    sys.exit(0 if trio.run(main, parser.parse_args().waiting) else "the restored database is not as promised")
