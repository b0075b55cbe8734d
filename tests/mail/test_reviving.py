"""Mails that a worker of the version before cancelled, because it does not know their kind, go out after all."""

from __future__ import annotations

import trio

from regsvc.accounts.audit.record import By
from regsvc.accounts.mails.reviving import revive_unknown_kinds
from regsvc.accounts.users.notices import add_change_notice
from regsvc.postgres.pool import Pool
from tests.services import Service

CANCEL = (
    "UPDATE mails SET state = 'cancelled', due_at = NULL, sent_at = NULL, sent_as = NULL, lease = NULL,"
    " reason = 'registration_over', attempts = %s WHERE kind = 'security'"
)


async def cancel_a_notice(pool: Pool, attempts: int, age: str = "0 s") -> None:
    """Book a security notice and leave it as an older worker does."""
    async with pool.transaction() as conn:
        row = await (await conn.execute("SELECT id FROM users")).fetchone()
        assert row is not None
        await add_change_notice(conn, row[0], "passkey_added", By("service"))
        await conn.execute(CANCEL, [attempts])
        await conn.execute(
            "UPDATE mails SET created_at = now() - %s::interval WHERE kind = 'security'", [age]
        )


async def test_a_notice_that_an_older_worker_cancelled_is_mailed(service: Service, pool: Pool) -> None:
    await service.confirm()
    await cancel_a_notice(pool, 1)
    async with pool.connection() as conn:
        assert await revive_unknown_kinds(conn, 10) in {0, 1}  # the service's own janitor may have been first
    with trio.fail_after(20):
        while len(service.mails("ann@example.com")) < 2:  # noqa: ASYNC110 - a folder has no event
            await trio.sleep(0.02)
    assert "/panic#t=" in service.mails("ann@example.com")[-1].text


async def test_what_is_cancelled_again_and_again_or_is_old_stays_cancelled(database: str, pool: Pool) -> None:
    async with pool.connection() as conn:
        await conn.execute(
            "INSERT INTO users (id, email, email_key, name, password_hash)"
            " VALUES (gen_random_uuid(), 'ann@example.com', 'ann@example.com', 'A', 'x')"
        )
    for attempts, age in ((6, "0 s"), (1, "61 min")):
        await cancel_a_notice(pool, attempts, age)
        async with pool.connection() as conn:
            assert await revive_unknown_kinds(conn, 10) == 0
