"""What is asked for twice with one key is done once, and a crash leaves neither the deed nor the key."""

from __future__ import annotations

from uuid import uuid4

import pytest

from regsvc.accounts.limits.idempotency import (
    IdempotencyKeyReusedError,
    Once,
    RequestInFlightError,
    claim_once,
    find_subject,
    purge_idempotency_keys,
)
from regsvc.postgres.pool import Pool

ONCE = Once(key=bytes(range(32)), fingerprint=b"a body")
OTHER_BODY = Once(key=ONCE.key, fingerprint=b"another body")


async def pass_a_day(pool: Pool) -> None:
    async with pool.connection() as conn:
        await conn.execute("UPDATE idempotency_keys SET created_at = created_at - interval '24 hours'")


async def test_the_first_one_does_it_and_the_next_ones_learn_what_it_was_about(pool: Pool) -> None:
    first, second = uuid4(), uuid4()
    async with pool.transaction() as conn:
        assert await find_subject(conn, ONCE) is None
        assert await claim_once(conn, ONCE, first) == first
    async with pool.transaction() as conn:
        assert await find_subject(conn, ONCE) == first
        assert await claim_once(conn, ONCE, second) == first


async def test_another_body_is_another_request(pool: Pool) -> None:
    async with pool.transaction() as conn:
        await claim_once(conn, ONCE, uuid4())
    for deed in (find_subject, lambda conn, once: claim_once(conn, once, uuid4())):
        with pytest.raises(IdempotencyKeyReusedError):
            async with pool.transaction() as conn:
                await deed(conn, OTHER_BODY)


async def test_while_somebody_is_at_it_nobody_waits(pool: Pool) -> None:
    subject = uuid4()
    async with pool.transaction() as conn:
        await claim_once(conn, ONCE, subject)
        with pytest.raises(RequestInFlightError):
            async with pool.transaction() as other:
                await claim_once(other, ONCE, uuid4())
    async with pool.transaction() as conn:
        assert await claim_once(conn, ONCE, uuid4()) == subject


async def test_what_is_rolled_back_was_never_asked_for(pool: Pool) -> None:
    with pytest.raises(ZeroDivisionError):
        async with pool.transaction() as conn:
            await claim_once(conn, ONCE, uuid4())
            raise ZeroDivisionError
    subject = uuid4()
    async with pool.transaction() as conn:
        assert await claim_once(conn, OTHER_BODY, subject) == subject


async def test_after_a_day_a_key_is_a_new_one(pool: Pool) -> None:
    async with pool.transaction() as conn:
        await claim_once(conn, ONCE, uuid4())
    await pass_a_day(pool)
    subject = uuid4()
    async with pool.transaction() as conn:
        assert await find_subject(conn, OTHER_BODY) is None
        assert await claim_once(conn, OTHER_BODY, subject) == subject
        assert await find_subject(conn, OTHER_BODY) == subject


async def test_keys_are_purged_after_a_day(pool: Pool) -> None:
    async with pool.transaction() as conn:
        await claim_once(conn, ONCE, uuid4())
    async with pool.connection() as conn:
        assert await purge_idempotency_keys(conn, 10) == 0
        await pass_a_day(pool)
        assert await purge_idempotency_keys(conn, 10) == 1
