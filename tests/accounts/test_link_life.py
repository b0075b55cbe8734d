"""How long a link and its code live when the mail server keeps the mail waiting: time passes in the rows."""

from __future__ import annotations

from datetime import timedelta

import pytest

from regsvc.accounts.registrations import confirmation, mail_status, registration
from regsvc.accounts.registrations.confirmation_code import try_code
from regsvc.accounts.registrations.registration import NewRegistration
from regsvc.mail.outcome import Delayed
from regsvc.mail.queue import bookings, jobs, retry_policy
from regsvc.mail.queue.bookings import Retry
from regsvc.postgres.pool import Pool
from regsvc.security.tokens import mint_code
from tests.accounts.attempts import SECRETS, let_pass, link_token, send, sign_up, state_of

SILENT = Delayed("timeout", "connect", "")


async def hold(pool: Pool, new: NewRegistration, held: timedelta) -> int:
    """Let the mail server be silent for that long, the mail being tried as the policy has it; says how often it was."""
    passed = timedelta(0)
    tries = 0
    while passed < held:
        async with pool.transaction() as conn:
            (job,) = await jobs.claim_due(conn, 10)
            assert await mail_status.begin_sending(conn, [job.id])
        step = retry_policy.next_step(job, SILENT)
        assert isinstance(step, Retry)
        async with pool.transaction() as conn:
            await mail_status.show_delayed(conn, await bookings.book_retries(conn, [step]))
        assert await state_of(pool, new.id) == "delayed"
        pause = min(step.after, held - passed)
        await let_pass(pool, pause)
        passed += pause
        tries += 1
    await let_pass(pool, timedelta(hours=2))  # until the next try
    return tries


async def press(pool: Pool, new: NewRegistration) -> bool:
    async with pool.transaction() as conn:
        return await confirmation.confirm_by_link(conn, SECRETS, link_token(new))


async def enter_code(pool: Pool, new: NewRegistration) -> str:
    async with pool.transaction() as conn:
        return await try_code(conn, SECRETS, new.id, mint_code(SECRETS, new.mail_id, new.email_key))


async def expire(pool: Pool) -> int:
    async with pool.connection() as conn:
        return await registration.expire_registrations(conn, 100)


HELD = [timedelta(minutes=40), timedelta(hours=30), timedelta(hours=45)]
JUST_BEFORE, JUST_AFTER = timedelta(hours=23, minutes=59, seconds=30), timedelta(hours=24)


@pytest.mark.parametrize("held", HELD, ids=str)
async def test_a_link_lives_24_hours_from_the_acceptance_however_long_that_took(
    pool: Pool, held: timedelta
) -> None:
    new = await sign_up(pool)
    assert await hold(pool, new, held) >= 4
    await send(pool, new.mail_id)
    await let_pass(pool, JUST_BEFORE)
    assert await expire(pool) == 0
    assert await press(pool, new)
    assert await state_of(pool, new.id) == "confirmed"


@pytest.mark.parametrize("held", HELD, ids=str)
async def test_a_code_lives_as_long_as_its_link(pool: Pool, held: timedelta) -> None:
    new = await sign_up(pool)
    await hold(pool, new, held)
    await send(pool, new.mail_id)
    await let_pass(pool, JUST_BEFORE)
    assert await enter_code(pool, new) == "confirmed"


@pytest.mark.parametrize("held", HELD, ids=str)
async def test_both_are_dead_24_hours_after_the_acceptance(pool: Pool, held: timedelta) -> None:
    new = await sign_up(pool)
    await hold(pool, new, held)
    await send(pool, new.mail_id)
    await let_pass(pool, JUST_AFTER)
    with pytest.raises(confirmation.TokenExpiredError):
        await press(pool, new)
    assert await enter_code(pool, new) == "expired"
    assert await expire(pool) == 1
    assert await state_of(pool, new.id) == "expired"


async def test_a_link_works_while_its_mail_waits_for_the_next_try(pool: Pool) -> None:
    """The server may have taken the mail and its answer been lost."""
    new = await sign_up(pool)
    await hold(pool, new, timedelta(minutes=40))
    assert await press(pool, new)


async def test_a_registration_whose_mail_nobody_takes_waits_until_a_day_after_that_is_given_up(
    pool: Pool,
) -> None:
    new = await sign_up(pool)
    await let_pass(pool, registration.UNSENT_LIFE - timedelta(seconds=30))
    assert await expire(pool) == 0
    await let_pass(pool, timedelta(seconds=30))
    assert await expire(pool) == 1
    assert await state_of(pool, new.id) == "expired"
