"""The mail schedule: 60 s, 2, 5, 15 min, then 6 a day, anew after a quiet day."""

from __future__ import annotations

from datetime import timedelta

import pytest
import trio

from regsvc.accounts.limits import mail_schedule
from regsvc.accounts.limits.mail_schedule import address_key, client_key, next_turns, quieten, take_turns
from regsvc.postgres.pool import Pool
from regsvc.security.tokens import Secrets
from tests.accounts.attempts import SECRETS

OTHER_SECRETS = Secrets(b"another secret of the tests, 32 byte")
KEY = address_key(SECRETS, "ann@example.com")


async def take(pool: Pool) -> bool:
    async with pool.connection() as conn:
        return KEY in await take_turns(conn, [KEY])


async def pass_time(pool: Pool, **time: float) -> None:
    async with pool.connection() as conn:
        await conn.execute(
            "UPDATE mail_schedules SET last_at = last_at - %(by)s, quiet_until = quiet_until - %(by)s",
            {"by": timedelta(**time)},
        )


async def test_the_pauses_grow(pool: Pool) -> None:
    assert await take(pool)
    for seconds in (60, 120, 300, 900, 4 * 3600, 4 * 3600):
        await pass_time(pool, seconds=seconds - 1)
        assert not await take(pool)
        await pass_time(pool, seconds=1)
        assert await take(pool)


async def test_a_quiet_day_starts_it_anew(pool: Pool) -> None:
    for seconds in (0, 60, 120, 300, 900):
        await pass_time(pool, seconds=seconds)
        assert await take(pool)
    await pass_time(pool, hours=24)
    assert await take(pool)
    await pass_time(pool, seconds=60)
    assert await take(pool)


async def test_a_turn_that_is_refused_changes_nothing(pool: Pool) -> None:
    await take(pool)
    async with pool.connection() as conn:
        before = await next_turns(conn, [KEY])
        for _ in range(5):
            assert not await take(pool)
        assert await next_turns(conn, [KEY]) == before


async def test_of_fifty_at_once_one_gets_the_turn(pool: Pool) -> None:
    taken: list[bool] = []

    async def one() -> None:
        taken.append(await take(pool))

    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(one)
    assert taken.count(True) == 1


async def test_after_this_was_not_me_one_mail_a_day_goes_out_for_thirty_days(pool: Pool) -> None:
    await take(pool)
    async with pool.connection() as conn:
        await quieten(conn, address_key(SECRETS, "ann@example.com"))
    await pass_time(pool, hours=23, minutes=59)
    assert not await take(pool)
    await pass_time(pool, minutes=1)
    assert await take(pool)
    await pass_time(pool, hours=23)
    assert not await take(pool)
    await pass_time(pool, days=28, hours=2)
    assert await take(pool)
    await pass_time(pool, seconds=60)
    assert await take(pool)


async def test_schedules_of_addresses_clients_and_registrations_are_apart(pool: Pool) -> None:
    keys = {
        KEY,
        client_key(SECRETS, "ann@example.com", "192.0.2.0/24"),
        client_key(SECRETS, "ann@example.com", "198.51.100.0/24"),
    }
    async with pool.connection() as conn:
        assert await take_turns(conn, keys) == keys


async def test_what_holds_nobody_up_is_purged(pool: Pool) -> None:
    await take(pool)
    async with pool.connection() as conn:
        assert await mail_schedule.purge_schedules(conn, 10) == 0
        await quieten(conn, address_key(SECRETS, "ann@example.com"))
        await pass_time(pool, hours=24)
        assert await mail_schedule.purge_schedules(conn, 10) == 0
        await pass_time(pool, days=29)
        assert await mail_schedule.purge_schedules(conn, 10) == 1


@pytest.mark.parametrize(("one", "other"), [("a", "b"), ("ab", "a")])
def test_keys_of_different_things_differ(one: str, other: str) -> None:
    assert address_key(SECRETS, one) != address_key(SECRETS, other)
    assert client_key(SECRETS, one, "x") != client_key(SECRETS, other, "x")
    assert client_key(SECRETS, one, "x") != address_key(SECRETS, one)


def test_a_dump_alone_does_not_tell_whose_schedule_it_is() -> None:
    """Without the secret, trying addresses finds none: another secret gives other keys."""
    assert address_key(SECRETS, "ann@example.com") != address_key(OTHER_SECRETS, "ann@example.com")
