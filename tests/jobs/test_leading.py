"""One process leads a chore: under a lease by the database's clock, whatever becomes of the process."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager

import pytest
import trio

from regsvc.consumer.leader import run_leader
from regsvc.jobs import leading
from regsvc.jobs.leading import LIFE, TRUSTED, Lead, Leadership
from regsvc.postgres.pool import Pool
from regsvc.waiting import lease_time


def stand(*holders: str, chore: str = "janitor") -> tuple[list[Leadership], list[Lead], ExitStack]:
    """Return processes that stand for a chore until the stack is closed."""
    stack = ExitStack()
    ships = [Leadership(holder) for holder in holders]
    leads = [ship.of(chore) for ship in ships]
    for lead in leads:
        stack.enter_context(lead.stand())
    return ships, leads, stack


async def let_pass(pool: Pool, seconds: float) -> None:
    """Let time pass for every lease."""
    async with pool.connection() as conn:
        await conn.execute("UPDATE leaderships SET until = until - make_interval(secs => %s)", (seconds,))


@asynccontextmanager
async def running(pool: Pool, ship: Leadership) -> AsyncIterator[trio.Event]:
    """Run the leader of a process as long as the block lasts."""
    stopping = trio.Event()
    async with trio.open_nursery() as nursery:

        async def run() -> None:
            await run_leader(pool=pool, leadership=ship, stopping=stopping)

        nursery.start_soon(run)
        yield stopping
        stopping.set()


async def test_of_two_that_begin_at_once_one_leads(pool: Pool) -> None:
    ships, leads, stack = stand(*(f"process {n}" for n in range(8)))
    with stack:
        async with trio.open_nursery() as nursery:
            for ship in ships:
                nursery.start_soon(ship.renew, pool)
        assert [lead.ours for lead in leads].count(True) == 1
        for ship in ships:
            await ship.renew(pool)
        assert [lead.ours for lead in leads].count(True) == 1


async def test_a_leader_that_died_is_followed_when_its_lease_ends(pool: Pool) -> None:
    (dead, other), (lead, next_lead), stack = stand("dead", "other")
    with stack:
        await dead.renew(pool)
        seconds = await other.renew(pool)
        assert not next_lead.ours
        assert seconds <= LIFE.total_seconds() + 1, "it looks again as soon as the lease may be free"
        await let_pass(pool, LIFE.total_seconds())
        await other.renew(pool)
        assert next_lead.ours
        await dead.renew(pool)
        assert not lead.ours, "the first is back, and finds another leader"


async def test_a_leader_that_is_stuck_stops_by_its_own_clock_before_its_lease_is_free(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    (stuck, other), (lead, next_lead), stack = stand("stuck", "other")
    with stack:
        began = lease_time()
        await stuck.renew(pool)
        monkeypatch.setattr(leading, "lease_time", lambda: began + TRUSTED + 0.01)
        assert not lead.ours
        await other.renew(pool)
        assert not next_lead.ours, "by the database's clock the lease goes on for three seconds more"


async def test_a_leader_that_stops_leaves_at_once(pool: Pool) -> None:
    (first, second), (lead, next_lead), stack = stand("first", "second")
    with stack:
        async with running(pool, first):
            with trio.fail_after(10):
                await lead.wait_won()
            await second.renew(pool)
            assert not next_lead.ours
        assert not lead.ours
        await second.renew(pool)
        assert next_lead.ours


async def test_a_process_whose_child_is_broken_holds_no_lease(pool: Pool) -> None:
    """Its relay cannot reach the broker, its janitor works: another relay leads."""
    ship, other = Leadership("first"), Leadership("second")
    with ship.of("janitor").stand(), other.of("relay").stand(), other.of("janitor").stand():
        async with running(pool, ship):
            with ship.of("relay").stand(), trio.fail_after(10):
                await ship.of("relay").wait_won()
                await ship.of("janitor").wait_won()
                await other.renew(pool)
                assert other.led == []
            with trio.fail_after(10):
                while other.led != ["relay"]:
                    await other.renew(pool)
            assert ship.led == ["janitor"]


async def test_a_lease_that_another_transaction_holds_is_not_waited_for(pool: Pool) -> None:
    (ship,), (lead,), stack = stand("process")
    with stack:
        await ship.renew(pool)
        await let_pass(pool, LIFE.total_seconds())
        async with pool.transaction() as conn:
            await conn.execute("SELECT FROM leaderships FOR UPDATE")
            with trio.fail_after(1):
                assert await ship.renew(pool) <= leading.RENEW_EVERY
            assert not lead.ours
        await ship.renew(pool)
        assert lead.ours


async def test_who_does_not_stand_asks_nothing(pool: Pool) -> None:
    ship = Leadership("process")
    assert not ship.of("janitor").ours
    assert await ship.renew(pool) == math.inf
    async with pool.connection() as conn:
        cursor = await conn.execute("SELECT FROM leaderships")
        assert await cursor.fetchall() == []
