"""Which code of a sign-up works, for how long, and how often anybody may guess: time passes in the rows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from regsvc.accounts.audit.record import By
from regsvc.accounts.limits import code_attempts
from regsvc.accounts.registrations import confirmation, mail_status, registration
from regsvc.accounts.registrations.confirmation_code import read_code, try_code
from regsvc.accounts.registrations.registration import NewRegistration
from regsvc.mail.queue import bookings, jobs
from regsvc.mail.queue.jobs import Job
from regsvc.postgres.pool import Pool
from regsvc.security.tokens import mint_code
from tests.accounts.attempts import SECRETS, let_pass, link_token, send, sign_up, state_of

OWNER = By("anonymous", origin="192.0.2.0/24")
STRANGER = By("anonymous", origin="203.0.113.0/24")


async def hand_over(pool: Pool, new: NewRegistration) -> Job:
    """Ask for the mail again and have it handed to the mail server, whose acceptance is not booked yet."""
    mail_id = uuid4()
    async with pool.transaction() as conn:
        await jobs.add_resend(conn, mail_id, new.email_key, wanted=new.id)
    async with pool.transaction() as conn:
        (job,) = await jobs.claim_mails(conn, [mail_id])
        await mail_status.choose_attempts(conn, [mail_id])
        (letter,) = await mail_status.begin_sending(conn, [mail_id])
    assert letter.registration_id == new.id
    return job


async def book(pool: Pool, job: Job) -> UUID:
    async with pool.transaction() as conn:
        booked = await bookings.book_sent(conn, [(bookings.Sent(job, "250 ok"), "confirm")])
        await mail_status.show_sent(conn, booked)
    return job.id


async def send_again(pool: Pool, new: NewRegistration) -> UUID:
    return await book(pool, await hand_over(pool, new))


async def enter(pool: Pool, new: NewRegistration, mail_id: UUID, by: By = OWNER) -> str:
    """Enter the code of one mail."""
    async with pool.transaction() as conn:
        return await try_code(conn, SECRETS, new.id, mint_code(SECRETS, mail_id, new.email_key), by)


async def guess_wrong(
    pool: Pool, new: NewRegistration, times: int, by: By = OWNER, mails: Sequence[UUID] = ()
) -> list[str]:
    """Enter a code of none of these mails, nor of the sign-up's first."""
    known = {mint_code(SECRETS, mail_id, new.email_key) for mail_id in (new.mail_id, *mails)}
    wrong = next(code for number in range(10) if (code := f"{number:06d}") not in known)
    outcomes: list[str] = []
    for _ in range(times):
        async with pool.transaction() as conn:
            outcomes.append(await try_code(conn, SECRETS, new.id, wrong, by))
    return outcomes


async def press(pool: Pool, new: NewRegistration) -> bool:
    async with pool.transaction() as conn:
        return await confirmation.confirm_by_link(conn, SECRETS, link_token(new))


@pytest.mark.parametrize("newer", [1, 2, 5])
async def test_of_several_accepted_mails_the_newest_ones_code_works(pool: Pool, newer: int) -> None:
    new = await sign_up(pool)
    await send(pool, new.mail_id)
    mails = [new.mail_id]
    for _ in range(newer):
        await let_pass(pool, timedelta(hours=1))
        mails.append(await send_again(pool, new))
    await let_pass(pool, timedelta(minutes=10, seconds=1))
    assert [await enter(pool, new, mail_id) for mail_id in mails[-4:-1]] == ["wrong"] * min(newer, 3)
    assert await enter(pool, new, mails[-1]) == "confirmed"


async def test_the_code_before_the_newest_works_for_ten_minutes_more(pool: Pool) -> None:
    new = await sign_up(pool)
    await send(pool, new.mail_id)
    await let_pass(pool, timedelta(hours=1))
    await send_again(pool, new)
    await let_pass(pool, timedelta(minutes=9, seconds=30))
    assert await enter(pool, new, new.mail_id) == "confirmed"


async def test_the_code_two_before_the_newest_is_dead_at_once(pool: Pool) -> None:
    new = await sign_up(pool)
    await send(pool, new.mail_id)
    await let_pass(pool, timedelta(minutes=1))
    second = await send_again(pool, new)
    await let_pass(pool, timedelta(minutes=2))
    await send_again(pool, new)
    assert await enter(pool, new, new.mail_id) == "wrong"
    assert await enter(pool, new, second) == "confirmed"


async def test_a_code_dies_24_hours_after_its_own_acceptance_whatever_is_sent_after_it(pool: Pool) -> None:
    new = await sign_up(pool)
    await send(pool, new.mail_id)
    await let_pass(pool, timedelta(hours=23, minutes=55))
    newest = await send_again(pool, new)
    await let_pass(pool, timedelta(minutes=6))  # within ten minutes of the newest
    assert await enter(pool, new, new.mail_id) == "wrong"
    assert await enter(pool, new, newest) == "confirmed"


@pytest.mark.parametrize("typed", ["first", "handed over"])
async def test_a_code_works_from_the_hand_over_and_ends_no_other_until_the_acceptance(
    pool: Pool, typed: str
) -> None:
    new = await sign_up(pool)
    await send(pool, new.mail_id)
    await let_pass(pool, timedelta(hours=1))
    job = await hand_over(pool, new)
    await let_pass(pool, timedelta(minutes=30))  # the booking waits for the database
    assert await enter(pool, new, new.mail_id if typed == "first" else job.id) == "confirmed"


async def test_an_attempt_ends_seven_days_after_its_post_however_often_its_mail_is_sent(pool: Pool) -> None:
    new = await sign_up(pool)
    await send(pool, new.mail_id)
    for _ in range(8):
        await let_pass(pool, timedelta(hours=20, minutes=55))
        newest = await send_again(pool, new)
    async with pool.connection() as conn:
        found = await registration.get_registration(conn, new.id)
        cursor = await conn.execute("SELECT created_at FROM registrations")
        row = await cursor.fetchone()
    assert found is not None
    assert row is not None
    assert found.expires_at == row[0] + timedelta(days=7)
    await let_pass(pool, timedelta(minutes=41))
    assert await enter(pool, new, newest) == "expired"
    with pytest.raises(confirmation.TokenExpiredError):
        await press(pool, new)
    async with pool.connection() as conn:
        assert await registration.expire_registrations(conn, 100) == 1
    assert await state_of(pool, new.id) == "expired"


async def test_an_attempt_whose_address_is_changed_again_and_again_ends_after_seven_days(pool: Pool) -> None:
    new = await sign_up(pool)
    await let_pass(pool, timedelta(days=6))
    async with pool.transaction() as conn:
        await conn.execute("UPDATE registrations SET address_since = now()")
    await let_pass(pool, timedelta(days=1))
    async with pool.connection() as conn:
        assert await registration.expire_registrations(conn, 100) == 1
    assert await state_of(pool, new.id) == "expired"


async def test_a_sign_up_has_fifteen_attempts_over_all_its_codes(pool: Pool) -> None:
    new = await sign_up(pool)
    mails = [new.mail_id]
    await send(pool, new.mail_id)
    networks = [By("anonymous", origin=f"198.51.{n}.0/24") for n in range(4)]
    for by in networks[:3]:
        assert await guess_wrong(pool, new, 6, by, mails) == ["wrong"] * 5 + ["exhausted"]
        await let_pass(pool, timedelta(minutes=11))
        mails.append(await send_again(pool, new))
    assert await enter(pool, new, mails[-1], networks[3]) == "exhausted"
    assert await press(pool, new)


async def test_what_a_code_has_left_does_not_come_back_with_the_next_mail(pool: Pool) -> None:
    new = await sign_up(pool)
    await send(pool, new.mail_id)
    assert await guess_wrong(pool, new, 5) == ["wrong"] * 5
    await let_pass(pool, timedelta(minutes=1))
    newest = await send_again(pool, new)
    assert await enter(pool, new, new.mail_id) == "wrong"
    assert await enter(pool, new, newest) == "confirmed"


async def test_a_stranger_uses_up_their_own_budget_and_not_the_owners(pool: Pool) -> None:
    theirs = [await sign_up(pool, password_hash=f"stranger {n}") for n in range(3)]
    for attempt in theirs:
        await guess_wrong(pool, attempt, 5, STRANGER)
    owners = await sign_up(pool, password_hash="owner")
    await send(pool, owners.mail_id)
    assert await enter(pool, owners, owners.mail_id, OWNER) == "confirmed"


async def test_beyond_ten_a_month_from_a_network_a_right_code_is_answered_like_a_wrong_one(
    pool: Pool,
) -> None:
    for n in range(2):
        assert await guess_wrong(pool, await sign_up(pool, password_hash=f"{n}"), 5) == ["wrong"] * 5
    async with pool.connection() as conn:
        await conn.execute("UPDATE registrations SET expires_at = now()")  # they are over
    new = await sign_up(pool)
    await send(pool, new.mail_id)
    assert await enter(pool, new, new.mail_id) == "wrong"
    assert await press(pool, new), "the link works all the same"


async def test_the_budgets_of_an_address_are_whole_again_after_thirty_days(pool: Pool) -> None:
    for n in range(2):
        await guess_wrong(pool, await sign_up(pool, password_hash=f"{n}"), 5)
    await let_pass(pool, timedelta(days=30))
    async with pool.connection() as conn:
        await conn.execute("DELETE FROM registrations")
    new = await sign_up(pool)
    await send(pool, new.mail_id)
    assert await enter(pool, new, new.mail_id) == "confirmed"


async def test_beyond_two_hundred_a_month_for_an_address_no_networks_code_is_looked_at(pool: Pool) -> None:
    for n in range(20):
        async with pool.transaction() as conn:
            budgets = code_attempts.of_address(SECRETS, "ann@example.com", f"198.51.{n}.0/24")
            for _ in range(10):
                await code_attempts.spend(conn, budgets)
    new = await sign_up(pool)
    await send(pool, new.mail_id)
    assert await enter(pool, new, new.mail_id, OWNER) == "wrong"
    assert await press(pool, new)


async def test_right_codes_cost_nothing(pool: Pool) -> None:
    new = await sign_up(pool)
    await send(pool, new.mail_id)
    for _ in range(20):
        assert await enter(pool, new, new.mail_id) == "confirmed"
    async with pool.connection() as conn:
        assert (await conn.execute("SELECT FROM code_tries")).rowcount == 0


TYPED = {
    "as in the mail": "123456",
    "hyphen": "123-456",
    "true hyphen": "123\u2010456",
    "no-break space": "123\u00a0456",
    "thin space": "123\u2009456",
    "line end": "123456\r\n",
    "zero width": "\u200b123\u200d456\ufeff",
    "left-to-right marks": "\u200e123456\u200f",
    "full width": "\uff11\uff12\uff13\uff14\uff15\uff16",
    "arabic-indic": "\u0661\u0662\u0663\u0664\u0665\u0666",
    "persian": "\u06f1\u06f2\u06f3\u06f4\u06f5\u06f6",
    "devanagari": "\u0967\u0968\u0969\u096a\u096b\u096c",
    "keycaps": "".join(f"{digit}\ufe0f\u20e3" for digit in "123456"),
    "of several scripts": "1\u0662\uff13456",
}


@pytest.mark.parametrize("typed", TYPED.values(), ids=TYPED.keys())
def test_digits_count_as_people_type_and_paste_them(typed: str) -> None:
    assert read_code(typed) == "123456"


SLIPS = {
    "nothing": "",
    "five": "12345",
    "seven": "1234567",
    "a letter": "12345o",
    "letters": "abcdef",
    "superscripts": "\u00b9\u00b2\u00b3\u2074\u2075\u2076",
    "roman": "\u2160\u2161\u2162\u2163\u2164\u2165",
    "signs": "+123456",
}


@pytest.mark.parametrize("typed", SLIPS.values(), ids=SLIPS.keys())
def test_what_has_not_six_digits_is_no_code(typed: str) -> None:
    assert read_code(typed) is None
