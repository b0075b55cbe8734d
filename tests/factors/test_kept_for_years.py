"""What is sealed or MAC'd for a second factor outlives rotations of the service's secret."""

from __future__ import annotations

import pytest

from regsvc.accounts.factors.recovery_codes import take_recovery_code
from regsvc.accounts.factors.totp import take_totp
from regsvc.postgres.pool import Pool
from regsvc.security.seals import UnsealError
from regsvc.security.tokens import Secrets
from tests.factors.people import add_owner

FIRST, SECOND, THIRD = (f"secret {number} of the tests, long enough".encode() for number in range(3))


async def names(pool: Pool) -> set[str]:
    """The fingerprints of the keys that seals depend on."""
    async with pool.connection() as conn:
        cursor = await conn.execute(
            "SELECT sealed_with FROM totp_authenticators UNION SELECT sealed_with FROM recovery_keys"
        )
        return {str(name) for (name,) in await cursor.fetchall()}


async def test_an_app_and_its_recovery_codes_outlive_two_rotations(pool: Pool) -> None:
    """Used once under each secret, they are sealed again; the codes on paper stay good."""
    owner = await add_owner(pool, Secrets(FIRST))
    rotations = (Secrets(FIRST), Secrets(SECOND, FIRST), Secrets(THIRD, SECOND))
    for number, secrets in enumerate(rotations):
        async with pool.transaction() as conn:
            await conn.execute("UPDATE totp_authenticators SET last_step = 0")
            assert await take_totp(conn, secrets, owner.user_id, owner.code())
            assert await take_recovery_code(conn, secrets, owner.user_id, owner.recovery_codes[number])
        assert await names(pool) == {secrets.fingerprint}
    async with pool.transaction() as conn:
        await conn.execute("UPDATE totp_authenticators SET last_step = 0")
        assert await take_totp(conn, Secrets(THIRD), owner.user_id, owner.code())
        assert await take_recovery_code(conn, Secrets(THIRD), owner.user_id, owner.recovery_codes[9])


async def test_a_seal_of_another_user_opens_nothing(pool: Pool) -> None:
    secrets = Secrets(FIRST)
    owner, other = await add_owner(pool, secrets), await add_owner(pool, secrets)
    async with pool.connection() as conn:
        await conn.execute(
            "UPDATE totp_authenticators SET sealed = (SELECT sealed FROM totp_authenticators WHERE user_id = %s)"
            " WHERE user_id = %s",
            [owner.user_id, other.user_id],
        )
    with pytest.raises(UnsealError):
        async with pool.transaction() as conn:
            await take_totp(conn, secrets, other.user_id, owner.code())


async def test_no_dump_shows_a_secret_or_a_code(pool: Pool) -> None:
    owner = await add_owner(pool)
    async with pool.connection() as conn:
        cursor = await conn.execute(
            "SELECT t::text FROM totp_authenticators t UNION ALL SELECT k::text FROM recovery_keys k"
            " UNION ALL SELECT c::text FROM recovery_codes c"
        )
        dump = " ".join(text for (text,) in await cursor.fetchall())
    for secret in (owner.secret, *owner.recovery_codes):
        for form in (secret, secret.replace("-", "")):
            assert form not in dump
            assert form.encode().hex() not in dump
