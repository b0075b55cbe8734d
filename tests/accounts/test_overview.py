"""The last day in figures: every sign-up is counted once, where it belongs, and no older one."""

from __future__ import annotations

import pytest

from regsvc.accounts.admin.statistics import (
    BOUNDS,
    count_mails,
    count_registrations,
    list_hours,
    measure_speed,
    name_bounds,
)
from regsvc.postgres.pool import Pool
from tests.accounts.attempts import send, sign_up


async def test_a_day_without_anybody_is_all_zeros(pool: Pool) -> None:
    async with pool.connection() as conn:
        assert set(vars(await count_registrations(conn)).values()) == {0}
        queue, hours, speed = await count_mails(conn), await list_hours(conn), await measure_speed(conn)
    assert (queue.queued, queue.oldest) == (0, None)
    assert [(hour.signed_up, hour.confirmed) for hour in hours] == [(0, 0)] * 24
    assert (sum(speed.counts), speed.median, speed.p95) == (0, None, None)


async def test_sign_ups_are_counted_by_what_became_of_them(pool: Pool) -> None:
    waiting, sent, delayed, old = [await sign_up(pool, f"{name}@example.com") for name in "abcd"]
    await send(pool, sent.mail_id)
    async with pool.connection() as conn:
        await conn.execute(
            "UPDATE registrations SET state = 'delayed', next_try_at = now() WHERE id = %(id)s",
            {"id": delayed.id},
        )
        await conn.execute(
            "UPDATE registrations SET created_at = now() - interval '25 hours' WHERE id = %(id)s",
            {"id": old.id},
        )
        totals, queue, hours = (
            await count_registrations(conn),
            await count_mails(conn),
            await list_hours(conn),
        )
    assert (totals.signed_up, totals.waiting, totals.delayed, totals.confirmed) == (3, 2, 1, 0)
    assert queue.queued == 3
    assert queue.oldest is not None
    assert sum(hour.signed_up for hour in hours) == 3
    assert waiting.id != old.id


@pytest.mark.parametrize(
    ("seconds", "bar"), [(0.2, "0 s-1 s"), (7, "5 s-10 s"), (59, "30 s-1 min"), (5000, "over 60 min")]
)
async def test_a_mail_counts_where_its_time_belongs(seconds: float, bar: str, pool: Pool) -> None:
    new = await sign_up(pool)
    await send(pool, new.mail_id)
    async with pool.connection() as conn:
        await conn.execute(
            """
            UPDATE registrations SET created_at = m.sent_at - make_interval(secs => %(seconds)s)
              FROM mails m WHERE m.registration_id = registrations.id
            """,
            {"seconds": seconds},
        )
        speed = await measure_speed(conn)
    assert len(speed.counts) == len(BOUNDS)
    assert {name: count for name, count in zip(name_bounds(), speed.counts, strict=True) if count} == {bar: 1}
    assert speed.median == pytest.approx(seconds, abs=0.01)
    assert speed.p95 == speed.median
