"""The audit log: events are only ever added, in the transaction of what they tell of."""

from __future__ import annotations

from uuid import uuid4

import psycopg
import pytest

from regsvc.accounts.audit.record import By, forget_person, purge_audit, record
from regsvc.postgres.pool import Pool

ANYONE = By("anonymous", origin="192.0.2.0/24", client="curl", request_id="r1")


async def count(pool: Pool, where: str = "true") -> int:
    async with pool.connection() as conn:
        cursor = await conn.execute(f"SELECT count(*) FROM audit_events WHERE {where}".encode())
        row = await cursor.fetchone()
    assert row is not None
    return int(row[0])


async def test_an_event_is_kept_with_who_did_it_and_from_where(pool: Pool) -> None:
    async with pool.transaction() as conn:
        await record(conn, "login_failed", ANYONE, tries=3)
    assert await count(pool, "event = 'login_failed' AND origin = '192.0.2.0/24' AND request_id = 'r1'") == 1
    assert await count(pool, "details = '{\"tries\": 3}' AND user_id IS NULL") == 1


async def test_what_a_user_does_is_about_that_user(pool: Pool) -> None:
    user = uuid4()
    async with pool.transaction() as conn:
        await record(conn, "password_changed", By("user", user, uuid4()))
        await record(conn, "user_disabled", By("admin", uuid4(), uuid4()), user_id=user)
    assert await count(pool, f"user_id = '{user}'") == 2


async def test_an_event_of_what_is_rolled_back_is_not_there(pool: Pool) -> None:
    with pytest.raises(KeyError):
        async with pool.transaction() as conn:
            await record(conn, "login_failed", ANYONE)
            raise KeyError
    assert await count(pool) == 0


@pytest.mark.parametrize(
    "statement",
    ["UPDATE audit_events SET event = 'nothing'", "DELETE FROM audit_events", "TRUNCATE audit_events"],
)
async def test_events_are_neither_changed_nor_deleted(pool: Pool, statement: str) -> None:
    async with pool.transaction() as conn:
        await record(conn, "login_failed", ANYONE)
    with pytest.raises(psycopg.errors.RaiseException, match="only ever added to"):
        async with pool.transaction() as conn:
            await conn.execute(statement.encode())
    assert await count(pool, "event = 'login_failed'") == 1


async def test_a_deleted_user_leaves_events_without_places(pool: Pool) -> None:
    user = uuid4()
    async with pool.transaction() as conn:
        await record(conn, "logged_in", By("user", user, uuid4(), "192.0.2.0/24", "Firefox"), device="phone")
        await record(conn, "login_failed", ANYONE)
        await forget_person(conn, user)
    assert (
        await count(pool, f"user_id = '{user}' AND origin IS NULL AND client IS NULL AND details = '{{}}'")
        == 1
    )
    assert await count(pool, "origin IS NOT NULL") == 1
    with pytest.raises(psycopg.errors.RaiseException):
        async with pool.transaction() as conn:
            await forget_person(conn, user)
            await conn.execute(b"DELETE FROM audit_events")


async def test_what_a_deleted_administrator_did_to_others_stays_whole(pool: Pool) -> None:
    admin, other = uuid4(), uuid4()
    by = By("admin", admin, uuid4(), "192.0.2.0/24", "Firefox")
    async with pool.transaction() as conn:
        await record(conn, "user_disabled", by, user_id=other, reason="fraud")
        await record(conn, "mail_replayed", by, mail="of nobody")
        await record(conn, "user_enabled", by, user_id=admin)
        await forget_person(conn, admin)
    whole = "origin = '192.0.2.0/24' AND client = 'Firefox' AND details <> '{}'"
    assert await count(pool, f"event IN ('user_disabled', 'mail_replayed') AND {whole}") == 2
    assert await count(pool, "event = 'user_enabled' AND origin IS NULL AND client IS NULL") == 1


async def test_old_events_are_purged_and_no_others(pool: Pool) -> None:
    async with pool.transaction() as conn:
        await record(conn, "old", ANYONE)
        await record(conn, "young", ANYONE)
        await conn.execute("SET LOCAL regsvc.audit_upkeep = 'on'")
        await conn.execute("UPDATE audit_events SET at = now() - interval '401 days' WHERE event = 'old'")
    async with pool.connection() as conn:
        assert await purge_audit(conn, 10) == 1
    assert await count(pool, "event = 'young'") == 1
    assert await count(pool) == 1
