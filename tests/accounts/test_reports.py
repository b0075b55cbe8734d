"""Reports about mails: late, twice, out of order or forged, they change what they should and nothing else."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from regsvc.accounts.audit.record import By
from regsvc.accounts.deliveries import families, suppression
from regsvc.accounts.deliveries.attribution import Senders, list_mail_ids
from regsvc.accounts.deliveries.reports import apply_report
from regsvc.accounts.deliveries.unsent import schedule_facts, show_due_facts
from regsvc.accounts.factors import recovery_codes, totp
from regsvc.accounts.factors.recovery_codes import renew_recovery_codes
from regsvc.accounts.registrations import mail_status
from regsvc.accounts.registrations.registration import Registration
from regsvc.consumer.token import StoredToken, store
from regsvc.flows.resealing import find_old, reseal_all
from regsvc.mail.queue import bookings, jobs
from regsvc.mail.queue.bookings import Held
from regsvc.mail.reports.report import Clues, Event, Kind, Reason, Report
from regsvc.mail.smtp.access_token import AccessToken
from regsvc.postgres.pool import Pool
from regsvc.security.feedback.return_paths import mint_return_path
from regsvc.security.seals import seal, unseal
from regsvc.security.tokens import Secrets
from tests.accounts.attempts import SECRETS, send, sign_up
from tests.accounts.mails import execute, get_registration
from tests.accounts.users import add_user

SENDERS = Senders("example.org", "bounce@b.example.org")
BEGUN = datetime.now(UTC) - timedelta(hours=1)
REPORTS = int(os.environ.get("REGSVC_TEST_REPORTS", "200"))
EVENTS: Sequence[tuple[Event, Kind | None, Reason | None]] = (
    ("delivered", None, None),
    ("deferred", None, "timed_out"),
    ("bounced", "hard", "no_such_mailbox"),
    ("bounced", "soft", "mailbox_full"),
    ("failed", "block", "policy"),
    ("complained", None, None),
)


def make_report(
    mail_id: UUID,
    event: Event = "bounced",
    *,
    kind: Kind | None = "hard",
    reason: Reason | None = "no_such_mailbox",
    minute: float = 0,
    clues: Clues | None = None,
) -> Report:
    at = BEGUN + timedelta(minutes=minute)
    clues = clues or Clues(return_paths=(mint_return_path(SECRETS, "bounce@b.example.org", mail_id),))
    return Report("dsn", f"{mail_id}/{event}/{kind}/{minute}", event, at, kind, reason, clues)


async def tell(pool: Pool, report: Report) -> str:
    async with pool.transaction() as conn:
        return await apply_report(conn, SECRETS, SENDERS, report)


def expect(told: Sequence[Report]) -> tuple[str, str | None]:
    """What the page shows after these reports, said in another way than the product does it."""
    ends = sorted(
        (each for each in told if each.event not in {"deferred", "complained"}), key=lambda it: it.at
    )
    if ends:
        last = ends[-1]
        return ("sent", None) if last.event == "delivered" else ("bounced", last.reason)
    return ("delayed", "timed_out") if any(each.event == "deferred" for each in told) else ("sent", None)


async def test_reports_in_any_order_twice_and_forged_show_the_same(pool: Pool) -> None:
    """The reporter's times decide, not the order of arrival. REGSVC_TEST_REPORTS=10000 runs all of them."""
    seed = random.randrange(10**9)
    rng, wrong, left, number = random.Random(seed), list[str](), REPORTS, 0
    while left > 0:
        number += 1
        new = await sign_up(pool, f"person{number}@example.com")
        await send(pool, new.mail_id)
        minutes = rng.sample(range(60), rng.randint(1, 5))
        true = [
            make_report(new.mail_id, event, kind=kind, reason=reason, minute=minute)
            for minute in minutes
            for event, kind, reason in [rng.choice(EVENTS)]
        ]
        forger = Secrets(b"the secret of a forger, of 32 bytes")
        forged_path = mint_return_path(forger, "bounce@b.example.org", new.mail_id)
        clues = Clues(return_paths=(forged_path,), message_ids=(f"{new.mail_id}@example.org",))
        forged = [make_report(new.mail_id, "bounced", minute=59.5, clues=clues)]
        told = [*true, *rng.sample(true, rng.randint(0, len(true))), *forged]
        rng.shuffle(told)
        for report in told:
            await tell(pool, report)
        left -= len(told)
        shown = await get_registration(pool, new.id)
        if (shown.state, shown.reason) != expect(true):
            wrong.append(f"{expect(true)} and not {(shown.state, shown.reason)}: {true}")
    assert not wrong, f"seed {seed}: {wrong[0]}"


async def test_a_report_moves_nothing_out_of_a_final_state(pool: Pool) -> None:
    """A confirmed sign-up stays confirmed."""
    new = await sign_up(pool)
    await send(pool, new.mail_id)
    await execute(pool, "UPDATE registrations SET state = 'confirmed', password_hash = NULL")
    before = await get_registration(pool, new.id)
    assert await tell(pool, make_report(new.mail_id)) == "applied"
    assert await get_registration(pool, new.id) == before


async def test_a_report_that_comes_before_the_booking_shows_with_it(pool: Pool) -> None:
    """A provider may be quicker than our commit."""
    from regsvc.accounts.deliveries.reports import show_reported  # noqa: PLC0415

    new = await sign_up(pool)
    async with pool.transaction() as conn:
        (job,) = await jobs.claim_mails(conn, [new.mail_id])
        await mail_status.begin_sending(conn, [new.mail_id])
    await tell(pool, make_report(new.mail_id))
    assert (await get_registration(pool, new.id)).state == "sending"
    async with pool.transaction() as conn:
        booked = await bookings.book_sent(conn, [(bookings.Sent(job, "250 ok"), "confirm")])
        await mail_status.show_sent(conn, booked)
        await show_reported(conn, SECRETS, booked)
    assert (await get_registration(pool, new.id)).state == "bounced"


async def test_an_old_mail_says_nothing_about_a_new_address(pool: Pool) -> None:
    """After a typo was corrected, the bounce of the wrong address moves nothing."""
    from regsvc.accounts.address import to_address  # noqa: PLC0415
    from regsvc.accounts.registrations.registration import change_address  # noqa: PLC0415

    new, second = await sign_up(pool, "ann@exmaple.com"), uuid4()
    await send(pool, new.mail_id)
    async with pool.transaction() as conn:
        await change_address(conn, new.id, to_address("ann@example.com"), second)
    await send(pool, second)
    before = await get_registration(pool, new.id)
    await tell(pool, make_report(new.mail_id))
    assert await get_registration(pool, new.id) == before
    async with pool.connection() as conn:
        assert await suppression.find_suppressed(conn, SECRETS, ["ann@example.com"]) == {}


async def hold(
    pool: Pool, mail_id: UUID, leader: UUID | None, bounce: tuple[Kind, Reason] | None = None
) -> None:
    """Hold a mail back as a courier does, and show its attempt as sent."""
    async with pool.transaction() as conn:
        (job,) = await jobs.claim_mails(conn, [mail_id])
        await mail_status.begin_sending(conn, [mail_id])
    held = Held(job, datetime.now(UTC) + timedelta(hours=1), leader, bounce)
    async with pool.transaction() as conn:
        await mail_status.show_sent(conn, [mail_id])
        await bookings.book_held(conn, [held])
        await schedule_facts(conn, [held])


async def pass_delay(pool: Pool) -> None:
    """Let the usual delay of a receiver pass."""
    await execute(pool, "UPDATE registration_facts SET due_at = now()")
    async with pool.transaction() as conn:
        await show_due_facts(conn, 10)


def fate(shown: Registration) -> tuple[str, str | None, str | None]:
    return shown.state, shown.reason, shown.bounce_kind


async def test_an_attempt_without_a_mail_follows_the_one_that_has_the_turn(pool: Pool) -> None:
    """It shows the later reports of that mail, with times of its own."""
    from regsvc.accounts.limits import mail_schedule  # noqa: PLC0415

    first, second = await sign_up(pool), await sign_up(pool)
    async with pool.transaction() as conn:
        key = mail_schedule.address_key(SECRETS, first.email_key)
        assert await mail_schedule.try_turns(conn, {key: first.mail_id}) == {key: True}
    await send(pool, first.mail_id)
    await hold(pool, second.mail_id, first.mail_id)
    await tell(pool, make_report(first.mail_id))
    assert fate(await get_registration(pool, second.id)) == fate(await get_registration(pool, first.id))
    assert fate(await get_registration(pool, second.id)) == ("bounced", "no_such_mailbox", "hard")


async def test_what_was_reported_before_comes_after_the_usual_delay(pool: Pool) -> None:
    """An attempt that begins after the bounce of another one shows it no sooner than a bounce usually takes."""
    first, second = await sign_up(pool), await sign_up(pool)
    await send(pool, first.mail_id)
    await tell(pool, make_report(first.mail_id))
    await hold(pool, second.mail_id, first.mail_id)
    assert (await get_registration(pool, second.id)).state == "sent"
    await pass_delay(pool)
    assert fate(await get_registration(pool, second.id)) == ("bounced", "no_such_mailbox", "hard")


@pytest.mark.parametrize(("reported", "shown"), [(94, False), (95, True)])
async def test_deliveries_are_shown_only_where_nearly_all_are_reported(
    pool: Pool, reported: int, *, shown: bool
) -> None:
    """`delivered_at` comes to attempts with and without a mail alike, or to none."""
    await execute(
        pool,
        f"INSERT INTO receiver_families (family, mails, reported) VALUES ('other', 100, {reported})",
    )
    first, second = await sign_up(pool), await sign_up(pool, "bob@example.com")
    await send(pool, first.mail_id)
    await tell(pool, make_report(first.mail_id, "delivered", kind=None, reason=None))
    await hold(pool, second.mail_id, None)
    await pass_delay(pool)
    for new in (first, second):
        assert ((await get_registration(pool, new.id)).delivered_at is not None) == shown


async def test_families_are_judged_by_settled_mails_reported_or_not(pool: Pool) -> None:
    """A mail without a report counts against its family; one that is too young does not count."""
    for number in range(4):
        new = await sign_up(pool, f"person{number}@gmail.com")
        await send(pool, new.mail_id)
        if number < 2:
            await tell(pool, make_report(new.mail_id, "delivered", kind=None, reason=None))
        if number < 3:
            await execute(
                pool,
                "UPDATE mails SET created_at = created_at - interval '20 minutes', "
                "sent_at = sent_at - interval '20 minutes', reported_at = reported_at - interval '20 minutes' "
                f"WHERE id = '{new.mail_id}'",
            )
    async with pool.connection() as conn:
        await families.refresh_families(conn)
        cursor = await conn.execute(
            "SELECT family, mails, reported, cardinality(delays) FROM receiver_families ORDER BY family"
        )
        assert await cursor.fetchall() == [("all", 3, 2, 2), ("google", 3, 2, 2)]


async def test_hard_bounces_suppress_for_a_day_then_for_a_month(pool: Pool) -> None:
    """The second one within a year counts for thirty days; the same mail counts once."""
    spans = []
    for number in (1, 2):
        new = await sign_up(pool)
        await send(pool, new.mail_id)
        await tell(pool, make_report(new.mail_id, minute=number))
        await tell(pool, make_report(new.mail_id, reason="other", minute=number + 10))
        async with pool.connection() as conn:
            (found,) = await suppression.list_suppressions(conn, 10)
        assert found.bounced_at is not None
        assert found.bounced_until is not None
        assert found.bounces == number
        spans.append(found.bounced_until - found.bounced_at)
    assert spans == [timedelta(hours=24), timedelta(days=30)]


async def test_suppression_survives_rotations_of_the_secret(pool: Pool) -> None:
    """The MACs' key is sealed again when a report uses it, or by command; then the secret before is not needed."""
    secrets = SECRETS
    async with pool.transaction() as conn:
        await suppression.note_complaint(conn, secrets, "ann@example.com", at=datetime.now(UTC))
    for number in (1, 2, 3):
        rotated = Secrets(b"the next secret of tests, 32 bytes, %d" % number, secrets.current)
        async with pool.connection() as conn:
            assert await suppression.find_suppressed(conn, rotated, ["ann@example.com"])
            assert await find_old(conn, rotated) == ["suppression key"]
            if number == 1:
                async with conn.transaction():
                    await suppression.note_complaint(conn, rotated, "ann@example.com", at=datetime.now(UTC))
            else:
                assert (await reseal_all(conn, rotated, By("operator")))["suppression key"].sealed == 1
            assert await find_old(conn, rotated) == []
            assert len(await suppression.list_suppressions(conn, 10)) == 1
            assert await suppression.find_suppressed(conn, Secrets(rotated.current), ["ann@example.com"])
        secrets = rotated


async def test_a_secret_that_is_lost_stops_no_mail_and_no_report(pool: Pool) -> None:
    """What it sealed is counted and cannot be opened; suppression begins again."""
    async with pool.transaction() as conn:
        await suppression.note_complaint(conn, SECRETS, "ann@example.com", at=datetime.now(UTC))
    other = Secrets(b"a secret that knows nothing of others")
    async with pool.connection() as conn:
        assert await suppression.find_suppressed(conn, other, ["ann@example.com"]) == {}
        assert (await reseal_all(conn, other, By("operator")))["suppression key"].lost == 1
        async with conn.transaction():
            await suppression.note_complaint(conn, other, "ann@example.com", at=datetime.now(UTC))
        assert await suppression.find_suppressed(conn, other, ["ann@example.com"])


async def test_every_sealed_value_is_sealed_again_and_the_token_of_smtp_with_them(pool: Pool) -> None:
    """Authenticator secrets and recovery keys survive two rotations without a login, and so does the token."""
    user_id = await add_user(pool)
    async with pool.transaction() as conn:
        await renew_recovery_codes(conn, SECRETS, user_id)
        sealed = seal(SECRETS, totp.SEAL, b"the secret of an app", bound=user_id.bytes)
        await conn.execute(
            "INSERT INTO totp_authenticators (user_id, sealed, sealed_with, last_step) VALUES (%s, %s, %s, 0)",
            (user_id, sealed, SECRETS.fingerprint),
        )
        await store(conn, SECRETS, AccessToken("the token", 3600.0))
    secrets = SECRETS
    for number in (1, 2):
        secrets = Secrets(b"the next secret of tests, 32 bytes, %d" % number, secrets.current)
        async with pool.connection() as conn:
            done = await reseal_all(conn, secrets, By("operator"))
        assert {name: vars(each) for name, each in done.items()} == {
            name: {"sealed": 1, "lost": 0}
            for name in ("authenticator secrets", "recovery keys", "access token of SMTP")
        }
    alone = Secrets(secrets.current)
    assert await StoredToken(pool, alone).get() == "the token"
    async with pool.connection() as conn:
        cursor = await conn.execute("SELECT sealed FROM totp_authenticators")
        ((renewed,),) = await cursor.fetchall()
        cursor = await conn.execute("SELECT sealed FROM recovery_keys")
        ((key,),) = await cursor.fetchall()
    assert unseal(alone, totp.SEAL, renewed, bound=user_id.bytes) == b"the secret of an app"
    assert len(unseal(alone, recovery_codes.SEAL, key, bound=user_id.bytes)) == 32


def test_a_wrong_mac_is_not_rescued_by_a_message_id() -> None:
    """A forged envelope sender ends the search."""
    mail_id = uuid4()
    path = mint_return_path(SECRETS, "bounce@b.example.org", mail_id)
    right = Clues(return_paths=(path.upper(),))
    ids = (f"<{mail_id}@example.org>",)
    assert list_mail_ids(SECRETS, SENDERS, right) == [mail_id]
    forged = path[:40] + ("a" if path[40] != "a" else "b") + path[41:]
    assert list_mail_ids(SECRETS, SENDERS, Clues((forged,), ids)) == []
    assert list_mail_ids(SECRETS, SENDERS, Clues(message_ids=ids)) == [mail_id]


async def test_the_providers_id_names_a_mail_where_nothing_else_does(pool: Pool) -> None:
    """It was kept at the hand-over. An envelope sender with a wrong MAC is not rescued by it."""
    new = await sign_up(pool)
    await send(pool, new.mail_id)
    await execute(pool, f"UPDATE mails SET provider_id = 'the-id' WHERE id = '{new.mail_id}'")
    wrong = mint_return_path(
        Secrets(b"the secret of a forger, of 32 bytes"), "bounce@b.example.org", new.mail_id
    )
    forged = make_report(new.mail_id, clues=Clues(return_paths=(wrong,), provider_id="the-id"))
    assert await tell(pool, forged) == "unknown"
    assert await tell(pool, make_report(new.mail_id, clues=Clues(provider_id="another"))) == "unknown"
    gone = Clues(mail_ids=(str(uuid4()),), provider_id="the-id")
    assert await tell(pool, make_report(new.mail_id, clues=gone)) == "applied"
    assert (await get_registration(pool, new.id)).state == "bounced"
