"""No statement costs more because more is stored."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from regsvc.postgres.pool import Pool
from tests.databases import clone_database
from tests.growth.flows import keep, live
from tests.growth.recorder import Recorder, list_places, record
from tests.growth.rows import explain_all, fill
from tests.services import run_test_service

FEW, MANY = 10_000, 200_000
# Statements that flows.py does not execute. A new one is executed there, or named in here, or the test fails.
NOT_DONE = Path(__file__).with_name("not_done.txt")
FACTOR = 3
SPARE = 30  # blocks: an index of more rows is a level higher, and a page more is read here and there


async def measure(server: str, rows: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """Do everything once in a database with so many rows."""
    with clone_database(server) as database:
        fill(database, rows)
        explain_all(database)
        pool = Pool(database, application_name="regsvc test", limit=60)
        with record(monkeypatch) as recorder:
            async with run_test_service(database, folder, {"REGSVC_RATE_LIMITS": "on"}) as service:
                await live(service, pool)
            await keep(pool)  # now that no child claims what is due
        await pool.aclose()
    return recorder


def find_grown(few: Recorder, many: Recorder) -> dict[str, tuple[int, int]]:
    """Return what the statements read that read too much of a large database: there, and in a small one."""
    return {
        place: (few.blocks[place], blocks)
        for place, blocks in many.blocks.items()
        if place in few.blocks and blocks > FACTOR * few.blocks[place] + SPARE
    }


async def test_no_statement_reads_more_because_more_is_stored(
    postgres_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = await measure(postgres_server, FEW, tmp_path / "few", monkeypatch)
    many = await measure(postgres_server, MANY, tmp_path / "many", monkeypatch)
    grown = find_grown(few, many)
    for place, blocks in grown.items():
        sys.stdout.write(f"{place}: {blocks}\n{many.plans[place]}\n")
    unseen = set(list_places().values()) - many.blocks.keys()
    named = {line for line in NOT_DONE.read_text().splitlines() if line and not line.startswith("#")}
    missed, stale = unseen - named, named - unseen
    assert grown == {}
    assert missed == set(), f"do {sorted(missed)} in flows.py, or name them in not_done.txt"
    assert stale == set(), "these are executed, or gone: name them no longer in not_done.txt"
