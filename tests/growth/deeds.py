"""What workers, operators and upgrades do with the database, called as they call it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from regsvc.accounts import address_keys
from regsvc.accounts.address import parse_address
from regsvc.accounts.admin import address_findings, suppression_search, user_actions, user_search
from regsvc.accounts.admin.user_actions import NewUser
from regsvc.accounts.audit.record import By
from regsvc.accounts.cursor import Position
from regsvc.accounts.deliveries import families, radar, reports, showing, suppression, tokens, unsent
from regsvc.accounts.deliveries.attribution import Senders
from regsvc.accounts.events import deliveries, replay, sinks, webhooks
from regsvc.accounts.factors import guesses, recovery_codes
from regsvc.accounts.identities import accounts, attempts, identity, login_codes
from regsvc.accounts.invitations import acceptance, invitation
from regsvc.accounts.invitations.letters import begin_sending_invitations
from regsvc.accounts.limits import idempotency, login_attempts, mail_schedule, rate_limit
from regsvc.accounts.limits.login_opening import open_login
from regsvc.accounts.limits.rate_limit import RateLimitedError
from regsvc.accounts.limits.solutions import spend_solution
from regsvc.accounts.mails import legacy
from regsvc.accounts.registrations import (
    activation,
    awaited,
    confirmation,
    link_preview,
    login_code,
    mail_status,
    registration,
    signup_passkey,
)
from regsvc.accounts.registrations.login_code import NewLogin
from regsvc.accounts.service_tokens import service_token
from regsvc.accounts.sessions import browser_session, legacy_token, refresh_token, session_start
from regsvc.accounts.users import email_undo, notices, panic, terms, user
from regsvc.accounts.users.email_change import UNDO_USE
from regsvc.flows import verification
from regsvc.jobs import claims, failures, leases
from regsvc.mail.queue import bookings, breaker, jobs, publishing
from regsvc.mail.queue.bookings import Held
from regsvc.mail.queue.leases import release_jobs
from regsvc.mail.reports.report import Clues, Event, Report
from regsvc.mail.reports.standing import Standing
from regsvc.postgres.connection import Connection
from regsvc.postgres.pool import Pool
from regsvc.security.challenge import Solved
from regsvc.security.identities.proven_identity import ProvenIdentity
from regsvc.security.signing import key_store
from regsvc.security.tokens import (
    Secrets,
    SessionCookie,
    mint_account_token,
    mint_link_token,
    read_account_token,
    read_link_token,
)
from tests.factors.people import own_app
from tests.growth.rows import an_id

OPERATOR = By("operator")
SECRETS = Secrets(b"a secret for tests, 32 bytes long")
SECOND = timedelta(seconds=1)


async def try_all(pool: Pool) -> None:
    """Do each once."""
    await claim_and_book(pool)
    await review(pool)
    await take_reports(pool)
    async with pool.transaction(limit=60) as conn:
        await ask_about_addresses(conn)
        await undo_a_move(conn)
        await ask_for_codes(conn)
        await panic_after_a_move(conn)
    async with pool.connection(limit=60) as conn:
        await keep_the_breaker(conn)
        await limit_logins(conn)
        await ask_for_work(conn)
        await operate(conn)
        await use_identities(conn)
        await guess_factors(conn)
        await recompute(conn)


async def claim_and_book(pool: Pool) -> None:
    """Claim mails, and end each in another way."""
    ids = [uuid4() for _ in range(6)]
    async with pool.transaction(limit=60) as conn:
        for number, mail_id in enumerate(ids):
            await jobs.add_job(conn, mail_id, an_id("r", 3 * number + 3))
    async with pool.connection(limit=60) as conn:
        claimed = await jobs.claim_mails(conn, ids)
        assert len(claimed) == len(ids)
        await claims.find_claimable(conn, jobs.MAIL_JOBS, ids)
        await leases.renew_leases(conn, jobs.MAIL_JOBS, claimed)
        await leases.find_leased(conn, jobs.MAIL_JOBS, claimed)
        first, second, third, fourth, fifth, _ = claimed
        assert await bookings.book_retries(conn, [bookings.Retry(first, SECOND, "timeout")])
        assert await bookings.book_ended(conn, [bookings.Ended(second, "bounced", "mailbox_unavailable")])
        assert await failures.book_failures(conn, jobs.MAIL_JOBS, [(third, "timeout")], lambda _: SECOND)
        await release_jobs(conn, [fourth], after=SECOND)
        await bookings.book_sent(conn, [(bookings.Sent(fifth, "250 OK"), "confirm")])
        await mail_status.show_delayed(conn, [first.id])
        await mail_status.show_bounced(conn, [second.id])
        await mail_status.find_wanted(conn, ids)
        await jobs.add_resend(conn, uuid4(), "person77@example.org", wanted=an_id("r", 77))


async def review(pool: Pool) -> None:
    """Look at published mails of which the queue has too few, and enough."""
    for ready, at_the_time in ((0, timedelta(minutes=6)), (5, timedelta())):
        async with pool.transaction(limit=60) as conn:
            mail_id = uuid4()
            await jobs.add_job(conn, mail_id, an_id("r", 30))
            await conn.execute(
                "UPDATE mails SET published_at = now() - %s, due_at = now() WHERE id = %s",
                [at_the_time, mail_id],
            )
            await publishing.review_published(conn, ready)


async def take_reports(pool: Pool) -> None:
    """Take two reports about a mail that was sent, one of them signed with a token that counts once."""
    clues = Clues(mail_ids=(str(an_id("m", 77)),))
    events: tuple[Event, ...] = ("delivered", "bounced")
    for number, event in enumerate(events):
        report = Report("postmark", str(number), event, datetime.now(UTC), "hard", "no_such_mailbox", clues)
        async with pool.transaction(limit=60) as conn:
            await reports.apply_report(conn, SECRETS, Senders("example.org"), report)
    by_provider = Report("postmark", "x", "delivered", datetime.now(UTC), clues=Clues(provider_id="none"))
    async with pool.transaction(limit=60) as conn:
        await reports.apply_report(conn, SECRETS, Senders("example.org"), by_provider)
    claimed = jobs.Job(an_id("m", 77), an_id("r", 77), uuid4(), 1, SECOND)
    async with pool.transaction(limit=60) as conn:
        await reports.show_reported(conn, SECRETS, [an_id("m", 77)])
        await showing.show_standing(conn, [an_id("r", 77)], Standing("delivered"), deliveries_shown=True)
        await families.refresh_families(conn)
        await conn.execute(
            "UPDATE registrations SET state = 'sent', password_hash = 'x', expires_at = now() + interval '1 day' "
            "WHERE id = (SELECT registration_id FROM mails WHERE id = %s)",
            [claimed.id],
        )
        await unsent.schedule_facts(conn, [Held(claimed, datetime.now(UTC), None, ("hard", "other"))])
        await unsent.schedule_facts(conn, [Held(claimed, datetime.now(UTC), claimed.id)])
        await unsent.show_due_facts(conn, 1)
        await suppression.note_bounce(
            conn, SECRETS, "person77@example.org", kind="hard", reason=None, at=datetime.now(UTC)
        )
        await suppression.note_complaint(conn, SECRETS, "person77@example.org", at=datetime.now(UTC))
        found = await suppression.find_suppressed(conn, SECRETS, ["person77@example.org"])
        await suppression.pass_once_a_day(
            conn, found["person77@example.org"].key, "password_reset", an_id("m", 77)
        )
        (listed, *_) = await suppression.list_suppressions(conn, 10)
        page = await suppression_search.list_page(conn, after=None, limit=1)
        await suppression_search.list_page(conn, after=Position(page.rows[0].changed_at, listed.id), limit=1)
        await suppression_search.find_by_address(conn, SECRETS, "person77@example.org")
        await suppression.lift_suppression(conn, listed.id, OPERATOR)
        rotated = Secrets(b"another secret for tests, 32 bytes", SECRETS.current)
        await suppression.note_complaint(conn, rotated, "person78@example.org", at=datetime.now(UTC))
        await suppression.lift_address(conn, rotated, "person78@example.org", OPERATOR)
        await suppression.purge_suppressions(conn, 1)
        await tokens.use_token(conn, b"x" * 32, b"y" * 32)
        await tokens.purge_tokens(conn, 1)


async def use_identities(conn: Connection) -> None:
    """Open an account, join one, sign up and log in with identities, and take them away."""
    proven = ProvenIdentity("own", "https://id.example", "1", "new@example.org", "verified", "Ann")
    async with conn.transaction():
        await activation.lock_address(conn, "new@example.org")
        opened = await accounts.open_account(
            conn, parse_address("new@example.org"), name="Ann", locale="en", password_hash="!x", terms=None
        )
        assert opened is not None
        await identity.add_identity(conn, opened, proven)
    owner = await identity.find_owner(conn, proven)
    assert owner is not None
    await identity.note_use(conn, owner.identity_id, proven)
    await accounts.find_account(conn, "person77@example.org")
    await identity.list_identities(conn, opened)
    await identity.remove_identity(conn, opened, owner.identity_id)
    await identity.remove_identities(conn, opened, datetime.now(UTC))
    await attempts.attach_identity(conn, an_id("r", 3), proven)
    await attempts.forget_identities(conn, an_id("u", 3))
    code = await login_codes.add_code(conn, proven, "c" * 43)
    await login_codes.put_back(conn, await login_codes.take_code(conn, code, "c" * 43))
    await login_codes.purge_codes(conn, 20)


async def keep_the_breaker(conn: Connection) -> None:
    """Open it, take its turn, close it, and end a release."""
    await conn.execute(
        "UPDATE mail_breaker SET open = true, reason = 'timeout', opened_at = now(), probe_at = now()"
    )
    await breaker.take_probe(conn)
    state = await breaker.get_breaker(conn)
    assert await breaker._write(conn, state, replace(state, open=False))
    state = await breaker.get_breaker(conn)
    await breaker.note_released(conn, replace(state, recovered_for=3600.0))


async def ask_for_work(conn: Connection) -> None:
    """Look at limits, and use a solution up."""
    await rate_limit.look_at_limits(conn, [rate_limit.demand(SECRETS, rate_limit.Limit("login", 5, 60), "x")])
    await spend_solution(conn, Solved("signature", datetime.now(UTC)))


async def ask_for_codes(conn: Connection) -> None:
    """Ask for another code of an attempt to log in, and report the first one's mail."""
    login_id = uuid4()
    new = NewLogin(login_id, uuid4(), "x@y.org", "x@y.org", "en", "", "", b"o" * 32, b"t" * 32)
    await login_code.add_login(conn, new)
    await login_code.mail_again(conn, replace(new, mail_id=uuid4()))
    await showing.find_showing(conn, SECRETS, new.mail_id)


async def limit_logins(conn: Connection) -> None:
    """Count wrong guesses from a place until it has to wait, and take one back."""
    place = login_attempts.Place("192.0.2.1", "Firefox", "192.0.2.0/24")
    demands = [rate_limit.demand(SECRETS, rate_limit.Limit("login", 100, 60), "y")]
    opened = await open_login(conn, SECRETS, demands, "person77@example.org", place)
    assert opened.tried is not None
    await login_attempts.withdraw_try(conn, opened.tried)
    with pytest.raises(RateLimitedError):
        while True:
            await open_login(conn, SECRETS, demands, "person77@example.org", place)
    await idempotency.claim_once(conn, idempotency.Once(b"o" * 32, b"f" * 32), uuid4())
    await mail_schedule.find_early(conn, [b"x" * 32])
    await mail_schedule.find_leading(conn, [b"x" * 32])


async def ask_about_addresses(conn: Connection) -> None:
    """Use a link, a cookie, a token of old and legacy mail."""
    key = "person3@example.org"
    link = read_link_token(mint_link_token(SECRETS, an_id("r", 3), key))
    assert link is not None
    await confirmation.list_candidates(conn, SECRETS, link)
    await link_preview.get_recipient(conn, an_id("r", 3))
    await registration.list_seqs(conn, [an_id("r", 3), an_id("r", 4)])
    await registration.get_registration(conn, an_id("r", 3))
    await awaited.list_registrations(conn, [an_id("r", 3), an_id("r", 4)])
    await browser_session._renew(conn, SessionCookie(an_id("s"), 0))
    await legacy_token.spend_token(conn, "t4")
    await user.replace_password_hash(conn, an_id("u"), old="x", new="y")
    with pytest.raises(refresh_token.CredentialsChangedError):
        await session_start.start_session(
            conn, SECRETS, an_id("u"), password_hash="old", origin="192.0.2.0/24", client="curl"
        )
    request = legacy.LegacyRequest(parse_address("cem@example.org"), "token", (b"a", b"b"))
    assert await legacy.add_legacy_mails(conn, SECRETS, [request])


async def undo_a_move(conn: Connection) -> None:
    """Undo the change of an address, whose new reader has set a password."""
    await conn.execute(
        """
        UPDATE address_moves v SET state = 'done', done_at = now(), proved_at = now(), old_email = 'old@example.org',
                                   old_key = 'old@example.org', new_email = u.email, new_key = u.email_key
          FROM users u WHERE u.id = v.user_id AND v.id = %s
        """,
        [an_id("v", 12)],
    )
    token = read_account_token(mint_account_token(SECRETS, UNDO_USE, an_id("v", 12), "old@example.org"))
    assert token is not None
    assert await email_undo.begin_undo(conn, SECRETS, token, OPERATOR) is not None
    await conn.execute("UPDATE address_moves SET proved_at = NULL WHERE id = %s", [an_id("v", 12)])
    await email_undo.undo_change(conn, SECRETS, token, OPERATOR)


async def panic_after_a_move(conn: Connection) -> None:
    """Take an account back whose notice was mailed to an earlier address, whose new reader has set a password."""
    await notices.add_change_notice(conn, an_id("u", 21), "passkey_added", OPERATOR)
    cursor = await conn.execute("SELECT id, email_key FROM mails WHERE kind = 'security'")
    mail_id, email_key = await cursor.fetchone() or ()
    await conn.execute(
        """
        INSERT INTO address_moves (id, user_id, old_email, old_key, new_email, new_key, state, done_at, proved_at)
        SELECT %s, id, email, email_key, 'new@example.org', 'new@example.org', 'done', now(), now()
          FROM users WHERE id = %s
        """,
        [uuid4(), an_id("u", 21)],
    )
    await conn.execute(
        "UPDATE users SET email = 'new@example.org', email_key = 'new@example.org' WHERE id = %s",
        [an_id("u", 21)],
    )
    token = read_account_token(panic.mint_panic_token(SECRETS, mail_id, an_id("u", 21), email_key))
    assert token is not None
    assert await panic.begin_panic(conn, SECRETS, token, OPERATOR) is not None
    await conn.execute("UPDATE address_moves SET proved_at = NULL WHERE user_id = %s", [an_id("u", 21)])
    await panic.panic(conn, SECRETS, token, OPERATOR)


async def guess_factors(conn: Connection) -> None:
    """Guess until it is enough, and use factors that the previous secret sealed."""
    with pytest.raises(RateLimitedError):
        for _ in range(guesses.HOURLY + 1):
            await guesses.begin_guess(conn, an_id("u", 20), known=False, guessable=True)
    await conn.execute("DELETE FROM totp_authenticators WHERE user_id = %s", [an_id("u", 21)])
    owner = await own_app(conn, an_id("u", 21), SECRETS)
    rotated = Secrets(b"another secret for tests, long enough", SECRETS.current)
    assert await recovery_codes.take_recovery_code(conn, rotated, owner.user_id, owner.recovery_codes[0])
    await user_actions.reset_factors(conn, owner.user_id, OPERATOR)


async def invite_people(conn: Connection) -> None:
    """Invite, list, revoke and accept."""
    for name in ("eda", "person78"):
        address = parse_address(f"{name}@example.org")
        made = await invitation.invite(conn, address, "en", OPERATOR)
        await invitation.get_invitation(conn, made)
    await invitation.revoke_invitation(conn, made, OPERATOR)
    address = parse_address("person79@example.com")
    made = await invitation.invite(conn, address, "en", OPERATOR)
    await conn.execute("DELETE FROM users WHERE email_key = %s", [address.key])
    await invitation.list_invitations(conn, email_key=None, after=None, limit=50)
    await invitation.list_invitations(conn, email_key=address.key, after=None, limit=50)
    await begin_sending_invitations(conn, [made])
    token = read_account_token(acceptance.mint_invitation_token(SECRETS, made, address.key))
    assert token is not None
    await acceptance.accept_invitation(
        conn, SECRETS, token, acceptance.NewAccount("Eda", "en", "x", None), OPERATOR
    )
    await invitation.purge_invitations(conn, 500)
    await invitation.revive_mails(conn, 500)


async def operate(conn: Connection) -> None:
    """Do what the commands of an operator do."""
    new = NewUser("dea@example.org", "dea@example.org", "Dea", "en", "user", "x", None)
    added = await user_actions.add_user(conn, new, OPERATOR)
    await user_actions.import_users(
        conn, [replace(new, email=f"{n}@x.org", email_key=f"{n}@x.org") for n in range(9)]
    )
    await user_actions.set_role(conn, added, "admin", OPERATOR)
    await invite_people(conn)
    await terms.accept_terms(conn, added, "2026-01", OPERATOR)
    await user_search.find_person(conn, "person77@example.org")
    await address_keys._note(conn, an_id("u", 9), "shared", [an_id("u", 10), an_id("r", 10)])
    assert await address_findings.list_findings(conn)
    await address_findings.dismiss_findings(conn, [an_id("u", 9)])
    await key_store._update_seals(conn, {"no such key": b"x"})
    await conn.execute("DELETE FROM signing_keys")  # sealed with the service's secret
    for _ in range(2):
        await key_store.rotate_keys(conn, SECRETS, at_once=True)
    token, text = await service_token.create_token(conn, "billing", ["users:read"], None, OPERATOR)
    assert await service_token.find_token(conn, text)
    assert await service_token.list_tokens(conn)
    await service_token.revoke_token(conn, token.id, OPERATOR)
    await verification.count_all(conn, SECRETS)
    await radar._store(conn, radar.Echo("google", 9, 1, 9, 9, 20.0, astray=True), was=False)
    await idempotency.find_repeat(conn, b"o" * 32)
    await signup_passkey.find_signup_key(conn, "person77@example.org", b"x" * 32)
    await tell_others(conn)
    keys = await key_store.list_keys(conn)
    signer = key_store._find_signer(keys)
    await key_store.withdraw_key(conn, next(key.kid for key in keys if key != signer))


async def tell_others(conn: Connection) -> None:
    """Add and end webhooks, and deliver, fail and repeat their events."""
    added, _ = await webhooks.add_webhook(
        conn, SECRETS, "erp", "https://example.org/x", types=None, by=OPERATOR
    )
    await webhooks.rotate_webhook(conn, SECRETS, added, OPERATOR)
    await webhooks.list_webhooks(conn)
    await webhooks.get_webhook(conn, added)
    await sinks.note_attempt(conn, added, succeeded=False)
    await sinks.note_exchange(conn, "regsvc.events")
    await sinks.find_exchange(conn, "regsvc.events")
    await notices.tell_admins(conn, "webhook_added", OPERATOR)
    await webhooks.disable_webhook(conn, added, OPERATOR)
    await webhooks.enable_webhook(conn, added, OPERATOR)
    await webhooks.disable_failing(conn, added, OPERATOR)
    await webhooks.end_webhook(conn, added, "removed", OPERATOR)
    sink = an_id("k", 1)
    await conn.execute("UPDATE event_sinks SET ended_at = NULL, ended_reason = NULL WHERE id = %s", [sink])
    for dead in (True, False):
        for after in (None, 5000):
            await deliveries.list_deliveries(conn, sink, dead=dead, after=after, limit=50)
    await replay.replay_delivery(conn, sink, an_id("d", 7))
    newest = await (await conn.execute("SELECT max(at) FROM events")).fetchone()
    assert newest is not None
    await replay.replay_since(
        conn, sink, newest[0] - timedelta(minutes=1)
    )  # on a slow machine that is long ago
    await replay.request_replay(conn, sink, newest[0] - timedelta(minutes=1))
    await replay.continue_replay(conn)
    await replay.add_test(conn, sink)
    delivered, failed, dead_one, *_ = await deliveries.claim_deliveries(conn, {sink: 5})
    await deliveries.claim_deliveries(conn, {sink: 500})
    await deliveries.book_delivered(conn, [delivered], 200)
    await deliveries.book_failed(conn, failed, "timeout", None, timedelta(seconds=5))
    await deliveries.book_failed(conn, dead_one, "refused", 500, None)
    await deliveries.get_outcome(conn, delivered.id)
    await deliveries.find_email(conn, delivered.event)


async def recompute(conn: Connection) -> None:
    """Recompute a few batches of address keys, with rows that have wrong ones."""
    for table in ("users", "registrations"):
        # Folded as they were until 0.2: two of them belong to one key.
        await conn.execute(
            f"UPDATE {table} SET email = 'stra\u00dfe@example.org', email_key = 'strasse@example.org'"
            " WHERE id = (SELECT id FROM {0} ORDER BY id LIMIT 1)".format(table)
        )
    await address_keys.schedule_recomputing(conn)
    for _ in range(3):
        await address_keys.recompute_batch(conn, 100)
    for stage in address_keys._STAGES:
        await conn.execute("UPDATE address_key_progress SET stage = %s, after = NULL", [stage])
        await address_keys.recompute_batch(conn, 100)
    await conn.execute(
        "UPDATE address_key_progress SET stage = %s, after = 'ffffffff-ffff-ffff-ffff-ffffffffffff'",
        [list(address_keys._STAGES)[-1]],
    )
    await address_keys.recompute_keys(conn)
