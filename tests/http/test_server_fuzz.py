"""No bytes on any connection end the server or its listener.

`REGSVC_TEST_FUZZ` is how many connections are made (3,000), `REGSVC_TEST_SEED` what they send; `make fuzz` makes
100,000 and prints a table.
"""

from __future__ import annotations

import os

import pytest

from tests.http.fuzzer import fuzz

COUNT = int(os.environ.get("REGSVC_TEST_FUZZ", "3000"))
SEED = int(os.environ.get("REGSVC_TEST_SEED", "20260401"))


@pytest.mark.timeout(120 + COUNT // 20)
async def test_nothing_that_clients_send_ends_the_server_or_makes_it_fail() -> None:
    outcome = await fuzz(COUNT, SEED)
    assert outcome.alive
    assert outcome.caught == 0
    assert outcome.restarts == 0
    assert {101, 200, 400, 404, 405, 408, 413, 417, 426, 431, 501, 505} <= set(outcome.statuses)
    assert 500 not in set(outcome.statuses) | set(outcome.logged)
