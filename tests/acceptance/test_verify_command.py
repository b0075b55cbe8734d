"""`regsvc verify` opens what is kept for years and names what opens with no secret; `keys reseal` leaves nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from regsvc.accounts.audit.record import By
from regsvc.accounts.events.webhooks import add_webhook
from regsvc.accounts.factors.recovery_codes import take_recovery_code
from regsvc.accounts.factors.totp import take_totp
from regsvc.flows import verification
from regsvc.postgres.pool import Pool
from regsvc.security.tokens import Secrets
from tests.factors.people import Owner, add_owner
from tests.suite.commands import run_command

FIRST, SECOND, THIRD = (f"the {number}th secret of these tests, random: 9f3Kq7x" for number in range(3))
KEPT = {"authenticator secrets", "recovery keys", "webhook secrets"}


def secrets_of(current: str, previous: str | None = None) -> Secrets:
    return Secrets(current.encode(), None if previous is None else previous.encode())


async def regsvc(
    database: str, *arguments: str, current: str, previous: str | None = None, code: int = 0
) -> Any:
    """Run a command to its end and return the JSON that it prints."""
    environ = {"REGSVC_DATABASE_URL": database, "REGSVC_SECRET_KEY": current}
    if previous is not None:
        environ["REGSVC_SECRET_KEY_PREVIOUS"] = previous
    done = await run_command(*arguments, "--json", environ=environ)
    assert done.returncode == code, done.stderr.decode()
    return json.loads(done.stdout)


async def keep(pool: Pool) -> Owner:
    """Have the first secret seal one of each."""
    owner = await add_owner(pool, secrets_of(FIRST))
    async with pool.transaction() as conn:
        await add_webhook(
            conn, secrets_of(FIRST), "crm", "https://example.org/hook", types=None, by=By("operator")
        )
    return owner


def find(told: Any, count: tuple[int, int, int]) -> set[str]:
    """Return the kinds with this count of values that open, open with the previous secret only, or with neither."""
    return {
        each["name"]
        for each in told["kept"]
        if (each["current"], each["previous"], each["lost"]) == count and each["name"] in KEPT
    }


async def test_what_is_kept_outlives_two_rotations_without_being_used(database: str, pool: Pool) -> None:
    owner = await keep(pool)
    await set_hash(pool, FIRST)
    for current, previous in ((SECOND, FIRST), (THIRD, SECOND)):
        before = await regsvc(database, "verify", current=current, previous=previous)
        assert find(before, (0, 1, 0)) == KEPT
        await regsvc(database, "keys", "reseal", current=current, previous=previous)
        await set_hash(pool, current)  # as a login does
        assert find(await regsvc(database, "verify", current=current), (1, 0, 0)) == KEPT
    async with pool.transaction() as conn:
        assert await take_totp(conn, secrets_of(THIRD), owner.user_id, owner.code())
        assert await take_recovery_code(conn, secrets_of(THIRD), owner.user_id, owner.recovery_codes[0])


async def test_what_opens_with_no_secret_is_counted_and_nothing_is_changed(database: str, pool: Pool) -> None:
    owner = await keep(pool)
    lost = await regsvc(database, "verify", current=THIRD, previous=SECOND, code=1)
    assert find(lost, (0, 0, 1)) == KEPT
    async with pool.transaction() as conn:  # with the right one all is as it was
        assert await take_totp(conn, secrets_of(FIRST), owner.user_id, owner.code())


async def set_hash(pool: Pool, secret: str) -> None:
    version, _ = secrets_of(secret).peppers()
    stored = f"$hmac-sha384-bcrypt${version}$2b$04$F1Mc4fGUVYdoZKRBDAsRBegA6l5gHu7yyO8IqL8jk9W1bC/LNW/E2"
    async with pool.connection() as conn:
        await conn.execute("UPDATE users SET password_hash = %s", [stored])


async def test_password_hashes_are_counted_by_their_pepper(database: str, pool: Pool) -> None:
    await add_owner(pool, secrets_of(THIRD))
    for made_with, expected in ((THIRD, (1, 0, 0)), (SECOND, (0, 1, 0)), (FIRST, (0, 0, 1))):
        await set_hash(pool, made_with)
        code = int(made_with == FIRST)
        told = await regsvc(database, "verify", current=THIRD, previous=SECOND, code=code)
        (found,) = [each for each in told["kept"] if each["name"] == "password hashes"]
        assert (found["current"], found["previous"], found["lost"]) == expected


@pytest.mark.parametrize("size", [1, 2, 7, 8])
async def test_all_are_found_however_many_batches_they_take(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    for _ in range(7):
        await add_owner(pool, secrets_of(FIRST))
    monkeypatch.setattr(verification, "BATCH", size)
    async with pool.connection() as conn:
        counts = {count.name: count for count in await verification.count_all(conn, secrets_of(FIRST))}
    assert counts["authenticator secrets"].current == counts["recovery keys"].current == 7
