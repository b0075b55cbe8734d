"""Limits are exact, whoever counts and from wherever, and refill by the database's clock."""

from __future__ import annotations

from datetime import timedelta

import pytest
import trio
from trio.testing import MockClock

from regsvc.accounts.limits.rate_limit import (
    Demand,
    Limit,
    RateLimitedError,
    Standing,
    demand,
    purge_throttles,
    take_permits,
)
from regsvc.accounts.limits.refused_keys import MOST, RefusedKeys
from regsvc.postgres.pool import Pool
from tests.accounts.attempts import SECRETS

MINUTE = Limit("minute", 5, 60)
DAY = Limit("day", 8, 86_400)


async def take(pool: Pool, *limits: Limit, whom: str = "192.0.2.1") -> list[Standing]:
    async with pool.connection() as conn:
        return await take_permits(conn, [demand(SECRETS, limit, whom) for limit in limits])


async def pass_time(pool: Pool, seconds: float) -> None:
    async with pool.connection() as conn:
        await conn.execute(
            "UPDATE throttles SET free_at = free_at - %(by)s", {"by": timedelta(seconds=seconds)}
        )


async def test_a_limit_lets_its_quota_through_and_then_one_every_so_many_seconds(pool: Pool) -> None:
    for remaining in (4, 3, 2, 1, 0):
        [standing] = await take(pool, MINUTE)
        assert standing.remaining == remaining
    with pytest.raises(RateLimitedError) as refused:
        await take(pool, MINUTE)
    assert 11 < refused.value.retry_after <= 12
    await pass_time(pool, 12)
    await take(pool, MINUTE)
    with pytest.raises(RateLimitedError):
        await take(pool, MINUTE)
    await pass_time(pool, 60)
    for _ in range(5):
        await take(pool, MINUTE)


async def test_it_tells_what_is_left_and_when_all_of_it_is_there_again(pool: Pool) -> None:
    await take(pool, MINUTE)
    [second] = await take(pool, MINUTE)
    assert (second.limit, second.remaining) == (MINUTE, 3)
    assert 23 < second.reset <= 24


async def test_fifty_at_once_over_two_pools_get_exactly_the_quota(pool: Pool, database: str) -> None:
    other = Pool(database, application_name="regsvc test")
    outcomes: list[bool] = []

    async def one(of: Pool) -> None:
        try:
            await take(of, MINUTE, DAY)
        except RateLimitedError:
            outcomes.append(False)
        else:
            outcomes.append(True)

    async with trio.open_nursery() as nursery:
        for number in range(50):
            nursery.start_soon(one, (pool, other)[number % 2])
    await other.aclose()
    assert (outcomes.count(True), outcomes.count(False)) == (5, 45)


async def test_limits_that_are_asked_for_in_different_orders_never_wait_for_each_other(
    pool: Pool, database: str
) -> None:
    """Two that lock the same rows in two orders would end in a deadlock, which PostgreSQL breaks with an error."""
    wide = [Limit(f"wide-{number}", 1000, 60) for number in range(4)]
    other = Pool(database, application_name="regsvc test")

    async def many(of: Pool, limits: list[Limit]) -> None:
        for _ in range(25):
            await take(of, *limits)

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(many, pool, wide)
            nursery.start_soon(many, other, wide[::-1])
    await other.aclose()
    assert [it.remaining for it in await take(pool, *wide)] >= [1000 - 201] * 4


async def test_what_one_limit_refuses_is_counted_by_none(pool: Pool) -> None:
    for _ in range(5):
        await take(pool, MINUTE, DAY)
    for _ in range(20):
        with pytest.raises(RateLimitedError) as refused:
            await take(pool, MINUTE, DAY)
    assert refused.value.limit == "minute"
    assert [it.remaining for it in refused.value.standings] == [0, 3]
    await pass_time(pool, 60)
    for _ in range(3):
        await take(pool, MINUTE, DAY)
    with pytest.raises(RateLimitedError) as refused:
        await take(pool, MINUTE, DAY)
    assert refused.value.limit == "day"


async def test_clients_and_limits_are_counted_apart(pool: Pool) -> None:
    for _ in range(5):
        await take(pool, MINUTE, whom="192.0.2.1")
    [other_client] = await take(pool, MINUTE, whom="192.0.2.2")
    [other_limit] = await take(pool, Limit("another", 5, 60), whom="192.0.2.1")
    assert other_client.remaining == other_limit.remaining == 4


async def test_only_what_counts_nothing_any_more_is_purged(pool: Pool) -> None:
    await take(pool, MINUTE)
    await take(pool, DAY)
    async with pool.connection() as conn:
        assert await purge_throttles(conn, 10) == 0
        await pass_time(pool, 12)
        assert await purge_throttles(conn, 10) == 1
        await pass_time(pool, 86_400 / 8)
        assert await purge_throttles(conn, 10) == 1


async def test_who_is_counted_cannot_be_read_from_the_database(pool: Pool) -> None:
    await take(pool, MINUTE, whom="ann@example.com")
    async with pool.connection() as conn:
        [(key,)] = await (await conn.execute("SELECT key FROM throttles")).fetchall()
    assert len(key) == 32
    assert b"ann" not in key


async def test_a_refusal_writes_nothing(pool: Pool) -> None:
    """Whoever is held back costs a read, and waits for nobody who is writing."""
    limit = Limit("once", 1, 60)
    await take(pool, limit)

    async def version() -> object:
        async with pool.connection() as conn:
            cursor = await conn.execute("SELECT xmin::text, xmax::text, ctid::text FROM throttles")
            return await cursor.fetchall()

    before = await version()
    with pytest.raises(RateLimitedError):
        await take(pool, limit)
    assert await version() == before


def test_the_memory_of_refusals_is_bounded_and_forgets_in_time() -> None:
    async def remember() -> None:
        refused = RefusedKeys()
        limit = Limit("once", 1, 30)
        demands = [Demand(limit, str(number).encode()) for number in range(MOST + 1)]
        for each in demands:
            refused.note([each], [Standing(limit, 0, 30.0)])
        refused.check(demands[:1])  # the oldest is forgotten
        with pytest.raises(RateLimitedError) as raised:
            refused.check([Demand(limit, b"another"), demands[-1]])
        assert raised.value.retry_after == pytest.approx(30)
        await trio.sleep(30)
        refused.check(demands)

    trio.run(remember, clock=MockClock(autojump_threshold=0))


async def test_what_counts_requests_is_not_planned_at_each(pool: Pool) -> None:
    """Planning took longer than counting. A function that is created anew loses the setting."""
    async with pool.connection() as conn:
        cursor = await conn.execute("SELECT proconfig FROM pg_proc WHERE proname = 'take_permits'")
        assert await cursor.fetchall() == [(["plan_cache_mode=force_generic_plan"],)]
