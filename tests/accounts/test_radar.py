"""The radar: a receiver family that falls out of its own band is noticed, once, and so is its return."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from prometheus_client import REGISTRY

from regsvc.accounts.audit.record import By
from regsvc.accounts.deliveries.families import KEPT, find_usual
from regsvc.accounts.deliveries.radar import LEAST_RECENT, RECENT, is_astray, list_echoes, refresh_radar
from regsvc.accounts.registrations.activation import activate
from tests.accounts.attempts import let_pass, send, sign_up

if TYPE_CHECKING:
    from regsvc.postgres.pool import Pool


@pytest.mark.parametrize(
    ("recent", "before", "was", "astray"),
    [
        ((28, 40), (700, 1000), False, False),
        ((20, 40), (700, 1000), False, False),
        ((10, 40), (700, 1000), False, True),
        ((20, 40), (700, 1000), True, True),  # back only well within the band
        ((26, 40), (700, 1000), True, False),
        ((0, 40), (20, 1000), False, False),  # few ever confirm: nothing can be said
        ((39, 40), (100, 100), False, False),
        ((0, LEAST_RECENT - 1), (100, 100), False, False),
        ((0, 40), (40, 40), False, False),
    ],
)
def test_a_family_is_judged_by_its_own_band(
    recent: tuple[int, int], before: tuple[int, int], *, was: bool, astray: bool
) -> None:
    def spread(part: int, whole: int) -> list[bool]:
        return [True] * part + [False] * (whole - part)

    assert is_astray(spread(*recent), spread(*before), was=was) == astray


async def add(pool: Pool, domain: str, number: int, confirmed: int, *, hours: float) -> None:
    """Add sign-ups whose mails were accepted so long ago; some were confirmed half a minute later."""
    async with pool.connection() as conn:
        await conn.execute(
            """
            INSERT INTO registrations (id, email, email_key, name, locale, password_hash, origin, client, state,
                                       created_at, changed_at, expires_at)
            SELECT gen_random_uuid(), n || %(domain)s, n || %(domain)s, 'A', 'en',
                   CASE WHEN n > %(confirmed)s THEN 'hash' END, '192.0.2.0/24', 'curl',
                   CASE WHEN n > %(confirmed)s THEN 'sent' ELSE 'confirmed' END,
                   at, at + interval '30 s', at + interval '1 day'
              FROM (SELECT n, now() - %(hours)s * interval '1 hour' - n * interval '1 ms' AS at
                      FROM generate_series(1, %(number)s) n) AS signed_up
            """,
            {"domain": f"@{domain}", "number": number, "confirmed": confirmed, "hours": hours},
        )


async def refresh(pool: Pool) -> list[tuple[str, bool]]:
    async with pool.connection() as conn:
        return [(echo.family, echo.astray) for echo in await refresh_radar(conn)]


async def test_a_family_that_falls_silent_is_told_once_and_others_are_not(pool: Pool) -> None:
    for domain in ("gmail.com", "gmx.de"):
        await add(pool, domain, 100, 70, hours=5)
        await add(pool, domain, RECENT, 28, hours=4)
    assert await refresh(pool) == []
    await add(pool, "gmail.com", RECENT, 3, hours=3)
    await add(pool, "gmx.de", RECENT, 27, hours=3)
    await add(pool, "gmail.com", RECENT, 0, hours=0.05)  # too young to be judged
    assert await refresh(pool) == [("google", True)]
    assert await refresh(pool) == []
    async with pool.connection() as conn:
        google, other = await list_echoes(conn)
    assert (google.family, google.astray, google.recent_share) == ("google", True, 3 / RECENT)
    assert (other.family, other.astray, other.median) == ("other", False, 30.0)
    await add(pool, "gmail.com", RECENT, 30, hours=2)
    assert await refresh(pool) == [("google", False)]


async def test_a_confirmation_is_in_the_histogram_of_its_family_and_an_operators_is_not(pool: Pool) -> None:
    def measured() -> tuple[float, float]:
        name, labels = "regsvc_confirmation_seconds", {"family": "apple"}
        return tuple(REGISTRY.get_sample_value(f"{name}_{what}", labels) or 0.0 for what in ("count", "sum"))  # type: ignore[return-value]

    count, total = measured()
    for place, by in enumerate((By("anonymous"), By("operator"))):
        new = await sign_up(pool, f"{uuid4()}@icloud.com")
        await send(pool, new.mail_id)
        await let_pass(pool, timedelta(seconds=90))
        async with pool.transaction() as conn:
            await activate(conn, new.id, new.email_key, by)
        assert measured()[0] == count + 1, place
    assert 90 <= measured()[1] - total < 120


async def test_the_usual_time_of_a_family_is_that_of_nine_in_ten_and_unknown_for_few(pool: Pool) -> None:
    async with pool.connection() as conn:
        assert await find_usual(conn, "ann@gmail.com") is None
        await conn.execute(
            "INSERT INTO receiver_families (family, mails, reported, delays) VALUES ('google', 50, 50, %s)",
            ([float(n) for n in range(KEPT)],),
        )
        assert await find_usual(conn, "ann@gmail.com") == 45.0
        assert await find_usual(conn, "ann@outlook.com") is None
