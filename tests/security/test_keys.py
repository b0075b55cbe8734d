"""The signing keys through a rotation of the secret."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

import pytest
import trio

from regsvc.errors import ConfigurationError
from regsvc.postgres.pool import Pool
from regsvc.security.signing.access_token import AccessToken, SealError
from regsvc.security.signing.key_ring import KeyRing
from regsvc.security.signing.key_rings import KeyRings
from regsvc.security.signing.key_store import check_seals, load_key_ring
from regsvc.security.tokens import Secrets

ISSUER = "https://accounts.example.org"
OLD = Secrets(b"an old secret of the tests, 32 bytes")
ROTATED = Secrets(b"a new secret of the tests, 32 bytes!", previous=OLD.current)
NEW = Secrets(ROTATED.current)


async def load(pool: Pool, secrets: Secrets) -> KeyRing:
    async with pool.connection() as conn:
        return await load_key_ring(conn, secrets, ISSUER)


async def check(pool: Pool, secrets: Secrets) -> None:
    async with pool.connection() as conn:
        await check_seals(conn, secrets)


async def seals(pool: Pool) -> dict[str, bytes]:
    async with pool.connection() as conn:
        return dict(await (await conn.execute("SELECT kid, sealed FROM signing_keys")).fetchall())


async def test_a_rotation_seals_the_keys_anew_so_that_the_old_secret_can_be_dropped(pool: Pool) -> None:
    before = await load(pool, OLD)
    token = before.sign(AccessToken(uuid4(), uuid4(), "user"), now=datetime.now(UTC))
    await load(pool, ROTATED)
    after = await load(pool, NEW)
    assert after.signer == before.signer
    assert after.private.raw == before.private.raw
    after.verify(token)
    with pytest.raises(SealError):
        await load(pool, OLD)


async def test_every_key_that_signs_or_verifies_is_sealed_anew(pool: Pool) -> None:
    await load(pool, OLD)
    async with pool.connection() as conn:
        await conn.execute(
            "UPDATE signing_keys SET retired_at = now(), created_at = now() - interval '1 day'"
        )
    await load(pool, OLD)
    before = await seals(pool)
    await load(pool, ROTATED)
    after = await seals(pool)
    assert len(before) == 2
    assert before.keys() == after.keys()
    assert all(before[kid] != after[kid] for kid in before)


async def test_keys_that_are_sealed_with_the_current_secret_are_left_alone(pool: Pool) -> None:
    await load(pool, OLD)
    await load(pool, ROTATED)
    before = await seals(pool)
    await load(pool, ROTATED)
    assert await seals(pool) == before


async def test_processes_that_start_at_once_after_a_rotation_have_one_key(pool: Pool) -> None:
    first = await load(pool, OLD)
    rings: list[KeyRing] = []

    async def start() -> None:
        rings.append(await load(pool, ROTATED))

    async with trio.open_nursery() as nursery:
        for _ in range(6):
            nursery.start_soon(start)
    assert {ring.signer for ring in rings} == {first.signer}
    assert (await load(pool, NEW)).signer == first.signer


async def test_a_check_says_whether_the_secret_fits_and_changes_nothing(pool: Pool) -> None:
    await check(pool, OLD)
    assert await seals(pool) == {}
    await load(pool, OLD)
    before = await seals(pool)
    await check(pool, ROTATED)
    with pytest.raises(ConfigurationError, match="REGSVC_SECRET_KEY"):
        await check(pool, NEW)
    assert await seals(pool) == before


async def test_a_process_of_the_old_secret_serves_on_beside_those_of_the_new_one(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("regsvc.security.signing.key_rings._REFRESH", 0.0)  # reads them each time
    rings = KeyRings(pool, OLD, ISSUER)
    before = await rings.current()
    await load(pool, ROTATED)
    assert await rings.current() is before
    with pytest.raises(SealError):
        await KeyRings(pool, OLD, ISSUER).current()
