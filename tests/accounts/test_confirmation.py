"""Who becomes the user when several people sign up for one address."""

from __future__ import annotations

import itertools
from uuid import UUID

import pytest
import trio

from regsvc.accounts.registrations import confirmation
from regsvc.accounts.registrations.confirmation_code import try_code
from regsvc.accounts.registrations.registration import NewRegistration
from regsvc.postgres.pool import Pool
from regsvc.security.tokens import mint_code
from tests.accounts.attempts import SECRETS, link_token, send, sign_up, state_of


async def press(
    pool: Pool,
    new: NewRegistration,
    *,
    chosen: UUID | None = None,
    has_handle: bool = False,
    strict: bool = False,
) -> bool:
    """Press the link of an attempt's mail."""
    async with pool.transaction() as conn:
        return await confirmation.confirm_by_link(
            conn, SECRETS, link_token(new), chosen=chosen, has_handle=has_handle, password_required=strict
        )


async def user_hashes(pool: Pool) -> list[str]:
    async with pool.connection() as conn:
        cursor = await conn.execute("SELECT password_hash FROM users")
        return [row[0] for row in await cursor.fetchall()]


async def test_the_link_alone_confirms_the_only_attempt(pool: Pool) -> None:
    new = await sign_up(pool)
    assert await send(pool, new.mail_id) == "confirm"
    assert await press(pool, new)
    assert await state_of(pool, new.id) == "confirmed"
    assert await user_hashes(pool) == ["hash"]


async def test_a_link_works_before_its_mail_is_booked_as_sent(pool: Pool) -> None:
    new = await sign_up(pool)
    assert await press(pool, new)


async def test_pressing_again_is_fine_and_changes_nothing(pool: Pool) -> None:
    new = await sign_up(pool)
    assert await press(pool, new)
    assert not await press(pool, new)


async def test_fifty_presses_at_once_are_one_transition(pool: Pool) -> None:
    new = await sign_up(pool)
    changed: list[bool] = []

    async def one() -> None:
        changed.append(await press(pool, new))

    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(one)
    assert sorted(changed) == [False] * 49 + [True]
    assert await user_hashes(pool) == ["hash"]


@pytest.mark.parametrize("order", list(itertools.permutations(["attacker", "victim", "attacker again"])))
@pytest.mark.parametrize("pressed", range(3))
async def test_of_several_attempts_the_one_whose_password_is_given_becomes_the_user(
    pool: Pool, order: tuple[str, ...], pressed: int
) -> None:
    attempts = {who: await sign_up(pool, password_hash=who) for who in order}
    link = attempts[order[pressed]]
    with pytest.raises(confirmation.PasswordNeededError):
        await press(pool, link)
    async with pool.connection() as conn:
        candidates = await confirmation.list_candidates(conn, SECRETS, link_token(link))
    assert {it.id: it.password_hash for it in candidates} == {
        attempt.id: who for who, attempt in attempts.items()
    }
    assert await press(pool, link, chosen=attempts["victim"].id)
    assert await user_hashes(pool) == ["victim"]


async def test_of_several_attempts_the_one_whose_handle_is_held_becomes_the_user(pool: Pool) -> None:
    await sign_up(pool, password_hash="attacker")
    own = await sign_up(pool, password_hash="victim")
    assert await press(pool, own, has_handle=True)
    assert await user_hashes(pool) == ["victim"]


async def test_once_an_address_has_an_account_no_other_attempt_takes_it(pool: Pool) -> None:
    first, second = await sign_up(pool, password_hash="first"), await sign_up(pool, password_hash="second")
    assert await press(pool, first, has_handle=True)
    with pytest.raises(confirmation.TokenExpiredError):
        await press(pool, second, has_handle=True)
    assert await user_hashes(pool) == ["first"]


async def test_a_strict_service_asks_for_the_password_of_the_only_attempt(pool: Pool) -> None:
    new = await sign_up(pool)
    with pytest.raises(confirmation.PasswordNeededError):
        await press(pool, new, strict=True)
    assert await press(pool, new, strict=True, chosen=new.id)


async def test_a_link_for_another_address_is_invalid(pool: Pool) -> None:
    new = await sign_up(pool)
    async with pool.connection() as conn:
        await conn.execute("UPDATE registrations SET email_key = 'other@example.com'")
    with pytest.raises(confirmation.TokenInvalidError):
        await press(pool, new)


async def test_a_link_is_dead_24_hours_after_the_mail_was_accepted_and_not_before(pool: Pool) -> None:
    new = await sign_up(pool)
    async with pool.connection() as conn:
        await conn.execute("UPDATE registrations SET created_at = now() - interval '40 hours'")
    await send(pool, new.mail_id)
    async with pool.connection() as conn:
        await conn.execute(
            "UPDATE registrations SET expires_at = expires_at - interval '23 hours 59 minutes'"
        )
    assert await press(pool, new)
    async with pool.connection() as conn:
        await conn.execute("UPDATE registrations SET expires_at = expires_at - interval '2 minutes'")
    with pytest.raises(confirmation.TokenExpiredError):
        await press(pool, new)


async def test_the_code_confirms_and_stays_good(pool: Pool) -> None:
    new = await sign_up(pool)
    code = mint_code(SECRETS, new.mail_id, new.email_key)
    for _ in range(2):
        async with pool.transaction() as conn:
            assert await try_code(conn, SECRETS, new.id, code) == "confirmed"
    assert await user_hashes(pool) == ["hash"]


async def test_a_code_has_five_tries(pool: Pool) -> None:
    new = await sign_up(pool)
    code = mint_code(SECRETS, new.mail_id, new.email_key)
    wrong = f"{(int(code) + 1) % 1_000_000:06d}"
    outcomes = []
    for guess in [wrong] * 5 + [code]:
        async with pool.transaction() as conn:
            outcomes.append(await try_code(conn, SECRETS, new.id, guess))
    assert outcomes == ["wrong"] * 5 + ["exhausted"]
    assert await user_hashes(pool) == []


async def test_a_repudiated_attempt_cannot_be_confirmed_and_its_mail_is_not_sent(pool: Pool) -> None:
    new = await sign_up(pool)
    for _ in range(2):  # again is fine
        async with pool.transaction() as conn:
            await confirmation.repudiate(conn, SECRETS, link_token(new))
    with pytest.raises(confirmation.TokenExpiredError):
        await press(pool, new)
    assert await state_of(pool, new.id) == "repudiated"


async def test_a_confirmed_address_cannot_be_repudiated(pool: Pool) -> None:
    new = await sign_up(pool)
    await press(pool, new)
    with pytest.raises(confirmation.AlreadyConfirmedError):
        async with pool.transaction() as conn:
            await confirmation.repudiate(conn, SECRETS, link_token(new))


async def test_the_owner_of_an_account_is_told_so_by_mail(pool: Pool) -> None:
    first = await sign_up(pool)
    await press(pool, first)
    second = await sign_up(pool, email="ANN@example.com")
    assert await send(pool, second.mail_id) == "account_exists"
    assert await state_of(pool, second.id) == "sent"


async def test_a_code_that_went_to_another_address_is_wrong(pool: Pool) -> None:
    new = await sign_up(pool)
    async with pool.transaction() as conn:
        elsewhere = mint_code(SECRETS, new.mail_id, "somebody.else@example.com")
        assert await try_code(conn, SECRETS, new.id, elsewhere) == "wrong"


async def test_a_flood_of_sign_ups_after_the_owners_does_not_push_the_owners_out(pool: Pool) -> None:
    owner = await sign_up(pool, password_hash="owner")
    flood = [await sign_up(pool, password_hash=f"flood {n}") for n in range(40)]
    async with pool.connection() as conn:
        candidates = await confirmation.list_candidates(conn, SECRETS, link_token(flood[-1]))
    assert len(candidates) == confirmation.CANDIDATES
    assert candidates[0].id == flood[-1].id
    assert (owner.id, "owner") in {(it.id, it.password_hash) for it in candidates}
