"""The lives of signing keys: announced, signing, verifying, gone."""

from __future__ import annotations

from uuid import uuid4

import pytest
import trio

from regsvc.errors import DatabaseUnavailableError
from regsvc.postgres.pool import Pool
from regsvc.security.signing.access_token import AccessToken, AccessTokenInvalidError
from regsvc.security.signing.key_lives import purge_keys
from regsvc.security.signing.key_ring import KeyRing
from regsvc.security.signing.key_rings import KeyRings
from regsvc.security.signing.key_store import (
    KeyInUseError,
    KeyNotFoundError,
    list_keys,
    load_key_ring,
    rotate_keys,
    withdraw_key,
)
from regsvc.security.tokens import Secrets

ISSUER = "https://accounts.example.org"
SECRETS = Secrets(b"a secret of the tests with 32 bytes")
SOMEBODY = AccessToken(uuid4(), uuid4(), "user")


async def load(pool: Pool) -> KeyRing:
    async with pool.connection() as conn:
        return await load_key_ring(conn, SECRETS, ISSUER)


async def rotate(pool: Pool, *, at_once: bool = False) -> str:
    async with pool.transaction() as conn:
        return await rotate_keys(conn, SECRETS, at_once=at_once)


async def withdraw(pool: Pool, kid: str) -> None:
    async with pool.transaction() as conn:
        await withdraw_key(conn, kid)


async def states(pool: Pool) -> dict[str, str]:
    async with pool.connection() as conn:
        return {key.kid: key.state for key in await list_keys(conn)}


async def pass_minutes(pool: Pool, minutes: float) -> None:
    async with pool.connection() as conn:
        await conn.execute(
            """
            UPDATE signing_keys
               SET signs_from = signs_from - make_interval(secs => %(s)s),
                   retired_at = retired_at - make_interval(secs => %(s)s)
            """,
            {"s": minutes * 60},
        )


async def test_a_new_key_is_published_first_then_signs_and_the_old_one_goes_when_its_tokens_are_dead(
    pool: Pool,
) -> None:
    before = await load(pool)
    new = await rotate(pool)
    assert await states(pool) == {new: "announced", before.signer: "signing"}
    announced = await load(pool)
    assert announced.signer == before.signer
    assert {key["kid"] for key in announced.jwks()["keys"]} == {before.signer, new}
    await pass_minutes(pool, 11.9)
    assert (await load(pool)).signer == before.signer
    await pass_minutes(pool, 0.2)
    after = await load(pool)
    assert (after.signer, await states(pool)) == (new, {new: "signing", before.signer: "verifying"})
    after.verify(before.sign(SOMEBODY))
    await pass_minutes(pool, 10.5)  # ten minutes of life, half a minute of leeway, from the last second on
    (await load(pool)).verify(before.sign(SOMEBODY))
    await pass_minutes(pool, 2)
    assert await states(pool) == {new: "signing"}
    async with pool.connection() as conn:
        assert await purge_keys(conn, 10) == 1
        assert await purge_keys(conn, 10) == 0
    assert (await load(pool)).signer == new


async def test_there_is_always_one_key_that_signs_however_often_one_rotates(pool: Pool) -> None:
    await load(pool)
    for _ in range(4):
        await rotate(pool)
        await pass_minutes(pool, 5)
    for _ in range(20):
        assert list((await states(pool)).values()).count("signing") == 1
        await pass_minutes(pool, 1)
    last = await rotate(pool, at_once=True)
    assert (await load(pool)).signer == last
    assert set((await states(pool)).values()) == {"signing", "verifying"}


async def test_rotations_at_the_same_moment_leave_one_key_that_will_sign(pool: Pool) -> None:
    await load(pool)
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(rotate, pool)
    await pass_minutes(pool, 13)
    assert list((await states(pool)).values()).count("signing") == 1


async def test_what_a_withdrawn_key_signed_is_refused(pool: Pool) -> None:
    before = await load(pool)
    with pytest.raises(KeyInUseError):
        await withdraw(pool, before.signer)
    with pytest.raises(KeyNotFoundError):
        await withdraw(pool, "nothing")
    await rotate(pool, at_once=True)
    await withdraw(pool, before.signer)
    with pytest.raises(AccessTokenInvalidError):
        (await load(pool)).verify(before.sign(SOMEBODY))


async def test_the_key_before_an_announced_one_that_is_withdrawn_signs_on(pool: Pool) -> None:
    before = await load(pool)
    await withdraw(pool, await rotate(pool))
    await pass_minutes(pool, 30)
    assert await states(pool) == {before.signer: "signing"}


async def test_a_token_of_a_key_that_is_a_moment_old_is_good_in_every_process(pool: Pool) -> None:
    rings = KeyRings(pool, SECRETS, ISSUER)
    before = await rings.current()
    await rotate(pool, at_once=True)
    token = (await load(pool)).sign(SOMEBODY)
    assert await rings.current() is before
    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(rings.verify, token)
    assert await rings.verify(token) == SOMEBODY
    assert await rings.verify(before.sign(SOMEBODY)) == SOMEBODY


async def test_made_up_keys_cost_one_reading_a_second_and_hold_nobody_up(pool: Pool) -> None:
    rings = KeyRings(pool, SECRETS, ISSUER)
    other = Secrets(b"another secret of the tests, 32 byte")
    await rings.current()
    async with pool.connection() as conn:
        await conn.execute("CREATE TABLE kept AS SELECT * FROM signing_keys")
        await conn.execute("DELETE FROM signing_keys")
        made_up = (await load_key_ring(conn, other, ISSUER)).sign(SOMEBODY)
        await conn.execute("DELETE FROM signing_keys")
        await conn.execute("INSERT INTO signing_keys SELECT * FROM kept")
    refused = 0

    async def present() -> None:
        nonlocal refused
        with pytest.raises(AccessTokenInvalidError):
            await rings.verify(made_up)
        refused += 1

    opened = trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(present)
    assert refused == 50
    assert trio.current_time() - opened < 10  # not a second each
    good = (await rings.current()).sign(SOMEBODY)
    assert await rings.verify(good) == SOMEBODY


async def test_an_unknown_key_that_cannot_be_looked_for_is_no_bad_token(pool: Pool) -> None:
    rings = KeyRings(pool, SECRETS, ISSUER)
    await rings.current()
    await rotate(pool, at_once=True)
    token = (await load(pool)).sign(SOMEBODY)
    away = Pool("postgresql://nobody@127.0.0.1:1/nothing", application_name="regsvc test", wait=0.5)
    rings._pool = away
    with pytest.raises(DatabaseUnavailableError):
        await rings.verify(token)
    await away.aclose()
