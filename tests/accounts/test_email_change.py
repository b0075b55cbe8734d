"""How moves to another address are kept."""

from __future__ import annotations

from regsvc.accounts.users import email_change
from regsvc.postgres.pool import Pool
from tests.accounts.mails import execute
from tests.accounts.users import add_user


async def test_a_move_is_forgotten_30_days_after_it_was_asked_for_or_done(pool: Pool) -> None:
    user_id = await add_user(pool)
    for age, done in (("29 days", "NULL"), ("30 days", "NULL"), ("31 days", "now() - interval '29 days'")):
        await execute(
            pool,
            f"""
            INSERT INTO address_moves
                (id, user_id, old_email, old_key, new_email, new_key, state, asked_at, done_at)
            SELECT gen_random_uuid(), '{user_id}', '{age}', 'a', 'b', 'b',
                   CASE WHEN {done} IS NULL THEN 'void' ELSE 'done' END, now() - interval '{age}', {done}
            """,
        )
    async with pool.connection() as conn:
        assert await email_change.purge_changes(conn, 10) == 1
        cursor = await conn.execute("SELECT old_email FROM address_moves ORDER BY 1")
        assert await cursor.fetchall() == [("29 days",), ("31 days",)]
