"""The end of a registration that nobody confirmed."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest

from regsvc.accounts.address import parse_address
from regsvc.accounts.registrations import confirmation, registration
from regsvc.postgres.pool import Pool
from tests.accounts.attempts import SECRETS, link_token, send, sign_up, state_of


async def expire(pool: Pool) -> int:
    async with pool.connection() as conn:
        return await registration.expire_registrations(conn, 100)


async def pass_time(pool: Pool, hours: float) -> None:
    async with pool.connection() as conn:
        await conn.execute(
            "UPDATE registrations SET created_at = created_at - %(by)s * interval '1 hour', "
            "address_since = address_since - %(by)s * interval '1 hour', "
            "changed_at = changed_at - %(by)s * interval '1 hour', "
            "expires_at = expires_at - %(by)s * interval '1 hour'",
            {"by": hours},
        )


async def password_of(pool: Pool, registration_id: UUID) -> object:
    async with pool.connection() as conn:
        cursor = await conn.execute(
            "SELECT password_hash FROM registrations WHERE id = %s", (registration_id,)
        )
        row = await cursor.fetchone()
        assert row is not None
        return row[0]


async def test_a_sent_attempt_expires_after_a_day_and_forgets_its_password(pool: Pool) -> None:
    new = await sign_up(pool)
    await send(pool, new.mail_id)
    await pass_time(pool, 23.9)
    assert await expire(pool) == 0
    await pass_time(pool, 0.2)
    assert await expire(pool) == 1
    assert await state_of(pool, new.id) == "expired"
    assert await password_of(pool, new.id) is None
    with pytest.raises(confirmation.TokenExpiredError):
        async with pool.transaction() as conn:
            await confirmation.confirm_by_link(conn, SECRETS, link_token(new))


async def test_an_attempt_whose_mail_was_never_accepted_lives_three_days(pool: Pool) -> None:
    new = await sign_up(pool)
    await pass_time(pool, 71.9)
    assert await expire(pool) == 0
    await pass_time(pool, 0.2)
    assert await expire(pool) == 1
    assert await state_of(pool, new.id) == "expired"


async def test_a_mended_address_gives_an_old_attempt_time_again(pool: Pool) -> None:
    new = await sign_up(pool)
    await pass_time(pool, 71.9)
    async with pool.transaction() as conn:
        await registration.change_address(conn, new.id, parse_address("bob@example.com"), uuid4())
    await pass_time(pool, 0.2)
    assert await expire(pool) == 0


async def test_what_is_over_is_deleted_after_thirty_days_with_its_mails(pool: Pool) -> None:
    new = await sign_up(pool)
    async with pool.transaction() as conn:
        await confirmation.repudiate(conn, SECRETS, link_token(new))
    await pass_time(pool, 24 * 29.9)
    async with pool.connection() as conn:
        assert await registration.purge_registrations(conn, 100) == 0
        await pass_time(pool, 24 * 0.2)
        assert await registration.purge_registrations(conn, 100) == 1
        cursor = await conn.execute("SELECT count(*) FROM mails")
        assert await cursor.fetchone() == (0,)
