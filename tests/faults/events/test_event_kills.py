from __future__ import annotations

import random
from pathlib import Path

import pytest
import trio

from tests.brokers import Broker
from tests.faults.events.run import open_run, run_short

# It has servers and processes of its own, which another test beside it would slow down.
pytestmark = pytest.mark.timeout(300)


async def test_every_event_arrives_in_order_and_with_one_id_whatever_is_killed(
    rabbitmq: Broker, short_directory: Path, root_directory: Path
) -> None:
    """Processes are killed at each moment that matters to an event, and the broker loses all that it had."""
    said: list[str] = []
    seed = random.SystemRandom().randrange(10**6)
    async with open_run(short_directory, root_directory, said.append, seed) as run:
        run.until = trio.current_time() + 150
        await run_short(run)
        wrong = await run.judge()
    print("\n".join([*said, run.books.table()]))  # noqa: T201 - pytest shows it when this fails
    assert wrong == []
    # A moment that does not come on a busy machine is no fault of the program's; several would be the suite's.
    assert len([entry.name for entry in run.books.entries if entry.missed]) <= 1
    assert sum(entry.events for entry in run.books.entries) > 50
