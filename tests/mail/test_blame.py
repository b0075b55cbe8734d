"""What is about us stops sending and burns no mail; what is about one recipient stops nobody else."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import pytest
import trio

from regsvc.accounts.admin import mail_actions
from regsvc.accounts.audit.record import By
from regsvc.accounts.limits import mail_schedule
from regsvc.accounts.registrations import mail_status
from regsvc.jobs.claims import find_claimable
from regsvc.mail.outcome import Accepted, Bounced, Delayed, Outcome, Refused
from regsvc.mail.queue import bookings, breaker, jobs, leases
from regsvc.mail.queue.bookings import Ended, Retry
from regsvc.mail.queue.retry_policy import retry_delay
from regsvc.mail.queue.verdict import UNKNOWN, Evidence, judge, mask
from regsvc.postgres.pool import Pool
from regsvc.postgres.session import UNHURRIED, begin_session
from tests.accounts import mails
from tests.accounts.attempts import SECRETS, sign_up
from tests.mail.test_breaker import note
from tests.mail.test_courier import run_sending, wait_state
from tests.proxies import Way, open_proxy
from tests.smtp_servers import Hold, Reaction, ScriptedServer

OK = Accepted("250 ok")
POLICY = Refused("policy_refused", "rcpt", "554 5.7.1 not from you")
ODD = Bounced("message_refused", "dot", "550 we do not like the look of it (ref a1b2c3)")
UNKNOWN_USER = Bounced("recipient_refused", "rcpt", "550 5.1.1 user unknown")


@dataclass
class ChoosyServer(ScriptedServer):
    """Reacts to recipients of some domains in a way of its own."""

    choices: dict[str, Reaction] = field(default_factory=dict)

    def reaction(self, step: str) -> Reaction | None:
        """Return what the domain of RCPT is answered, else what the script wants."""
        usual = super().reaction(step)
        if step != "RCPT":
            return usual
        domain = self.commands[-1].partition("@")[2].partition(">")[0]
        return self.choices.get(domain, usual)


def run_of(outcome: Outcome, *recipients: str, attempt: int = 1) -> list[Evidence]:
    return [Evidence(outcome, recipient, attempt) for recipient in recipients]


DOMAINS = ["a@one.example", "b@two.example", "c@three.example", "d@four.example", "e@five.example"]
PEOPLE = [f"{name}@one.example" for name in "abcde"]


@pytest.mark.parametrize(
    ("evidence", "opens"),
    [
        (run_of(POLICY, *DOMAINS[:2]), False),
        (run_of(POLICY, *DOMAINS[:3]), True),
        (run_of(POLICY, *PEOPLE[:4]), False),
        (run_of(POLICY, *PEOPLE), True),
        (run_of(POLICY, *["a@one.example"] * 20), False),
        (run_of(POLICY, *DOMAINS, attempt=2), False),
        (run_of(ODD, *DOMAINS[:3]), True),
        (run_of(UNKNOWN_USER, *PEOPLE), False),
        (run_of(UNKNOWN_USER, *DOMAINS[:4]), False),
        (run_of(UNKNOWN_USER, *DOMAINS), True),
        ([*run_of(POLICY, *DOMAINS[:2]), *run_of(OK, "z@six.example"), *run_of(POLICY, DOMAINS[2])], False),
        (
            [*run_of(ODD, *DOMAINS[:2]), *run_of(UNKNOWN_USER, "z@six.example"), *run_of(ODD, DOMAINS[2])],
            True,
        ),
        ([*run_of(POLICY, *DOMAINS[:2]), *run_of(ODD, *DOMAINS[2:4])], False),
        (run_of(Delayed("mailbox_busy", "rcpt", "450 4.2.0 greylisted"), *DOMAINS), False),
    ],
    ids=range(14),
)
def test_several_recipients_refused_in_the_same_words_with_none_accepted_between_is_about_us(
    evidence: list[Evidence],
    opens: bool,  # noqa: FBT001 - a table
) -> None:
    assert judge(UNKNOWN, evidence).open is opens


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("550 5.7.1 <a@one.example>: no", "550 5.7.1 <b@two.example>: no"),
        ("554 IP=192.0.2.1 - ask us", "554 IP=192.0.2.77 - ask us"),
        ("550 refused by mx1.one.example, id 4abc", "550 refused by mx2.two.example, id 5def"),
        ("550 no mail for a here", "550 no mail for b here"),
    ],
    ids=range(4),
)
def test_words_are_the_same_whatever_they_say_of_the_one_mail(first: str, second: str) -> None:
    assert mask(first, "a@one.example") == mask(second, "b@two.example")


def test_words_that_did_not_stand_in_the_way_of_another_hold_up_nobody_again() -> None:
    tripped = judge(UNKNOWN, run_of(POLICY, *PEOPLE))
    passed = judge(tripped, run_of(OK, "good@example.com"))
    assert (tripped.open, passed.open) == (True, False)
    more = [f"u{n}@one.example" for n in range(24)]
    assert not judge(passed, run_of(POLICY, *more)).open
    assert judge(passed, run_of(POLICY, *more, "z@one.example")).open
    assert judge(passed, run_of(OK, "good@example.com")) is passed


def test_words_with_another_code_are_others() -> None:
    assert mask("550 5.7.1 no") != mask("554 5.7.1 no") != mask("554 5.7.0 no") != mask("554 5.7.0 never")


async def test_a_refusal_of_a_recipient_closes_nothing_that_a_refusal_of_us_has_opened(pool: Pool) -> None:
    assert await note(pool, Refused("auth_failed", "auth", "535 no")) is True
    assert await note(pool, Evidence(UNKNOWN_USER, "a@one.example")) is None
    assert await note(pool, Evidence(OK, "a@one.example")) is False


async def send_all(pool: Pool, emails: list[str]) -> list[UUID]:
    return [(await sign_up(pool, email)).mail_id for email in emails]


async def test_mails_refused_in_unknown_words_are_held_and_sent_once_the_server_takes_them(
    pool: Pool, database: str
) -> None:
    script = {"DOT": "550 we do not like the look of it"}
    async with ScriptedServer(script).running() as smtp, run_sending(pool, database, smtp):
        ids = await send_all(pool, [f"u{n}@d{n}.example" for n in range(6)])
        await wait_open(pool)
        states = [(await mails.get(pool, mail_id)).state for mail_id in ids]
        assert states.count("bounced") <= 2  # before it could be known
        held = [mail_id for mail_id in ids if (await mails.get(pool, mail_id)).state != "bounced"]
        script.clear()
        await mails.execute(pool, "UPDATE mail_breaker SET probe_at = now()")
        for mail_id in held:
            await wait_state(pool, mail_id, "sent")


async def wait_open(pool: Pool) -> None:
    with trio.fail_after(20):
        while True:
            async with pool.connection() as conn:
                if (await breaker.get_breaker(conn)).open:
                    return
            await trio.sleep(0.02)


async def test_twenty_refused_sign_ups_hold_up_no_other(pool: Pool, database: str) -> None:
    choices: dict[str, Reaction] = {"refused.example": "554 5.7.1 Recipient address rejected: Access denied"}
    async with ChoosyServer(choices=choices).running() as smtp, run_sending(pool, database, smtp):
        await send_all(pool, [f"u{n}@refused.example" for n in range(20)])
        await wait_open(pool)
        await sign_up(pool, "good@example.com")
        await smtp.wait(lambda: bool(smtp.mails), seconds=20)
    assert [mail.recipient for mail in smtp.mails] == ["good@example.com"]


async def test_what_was_never_refused_itself_is_probed_first(pool: Pool) -> None:
    async with pool.connection() as conn:
        old = [await sign_up(pool, f"u{n}@refused.example") for n in range(3)]
        for job in await jobs.claim_mails(conn, [new.mail_id for new in old]):
            await bookings.book_retries(
                conn, [Retry(job, retry_delay(6), "policy_refused", "554", "rcpt", alike=True)]
            )
        good = await sign_up(pool, "good@example.com")
        await bookings.hold_jobs(
            conn, [Retry(job, breaker.HOLD, "x") for job in await jobs.claim_mails(conn, [good.mail_id])]
        )
        await note(pool, *run_of(POLICY, *DOMAINS))
        state = await breaker.get_breaker(conn)
        assert [job.id for job in await breaker.claim_probe(conn, state)] == [good.mail_id]
        assert len(await breaker.claim_probe(conn, state)) == 1  # a refused one rather than none


async def test_a_slow_receiver_holds_up_its_own_mails_alone(pool: Pool, database: str) -> None:
    answer = trio.Event()
    choices: dict[str, Reaction] = {"slow.example": Hold(answer)}
    async with (
        ChoosyServer(choices=choices, extensions=("8BITMIME",)).running() as smtp,
        run_sending(pool, database, smtp, sessions=4),
    ):
        await send_all(pool, [f"u{n}@slow.example" for n in range(80)])
        await smtp.wait(lambda: smtp.said("RCPT") >= 2)
        await sign_up(pool, "good@example.com")
        await smtp.wait(lambda: bool(smtp.mails), seconds=15)
        assert [mail.recipient for mail in smtp.mails] == ["good@example.com"]
        assert smtp.open_connections <= 3
        answer.set()


async def test_what_bounced_in_the_same_words_is_replayed_together(pool: Pool) -> None:
    ids = await send_all(pool, [f"u{n}@d{n}.example" for n in range(3)])
    replies = ["550 we do not LIKE you", "550 we do not like you", "550 5.1.1 who"]
    async with pool.connection() as conn:
        claimed = {job.id: job for job in await jobs.claim_mails(conn, ids)}
        ended = [
            Ended(claimed[mail_id], "bounced", "message_refused", reply, "dot")
            for mail_id, reply in zip(ids, replies, strict=True)
        ]
        await mail_status.show_bounced(conn, await bookings.book_ended(conn, ended))
        by = By("operator")
        assert await mail_actions.replay_dead(conn, 10, by) == 0
        assert await mail_actions.replay_dead(conn, 10, by, reason="recipient_refused") == 0
        assert (
            await mail_actions.replay_dead(conn, 10, by, reason="message_refused", words="do not like") == 2
        )
        assert await mail_actions.replay_dead(conn, 10, by, reason="message_refused") == 1
    assert {(await mails.get(pool, mail_id)).state for mail_id in ids} == {"queued"}


# -- locks


async def test_those_who_write_the_same_mails_in_another_order_do_not_wait_for_each_other(pool: Pool) -> None:
    ids = sorted(await send_all(pool, [f"u{n}@example.com" for n in range(5)]))
    async with pool.connection() as conn:
        claimed = sorted(await jobs.claim_mails(conn, ids), key=lambda job: job.id)
    middle = trio.Event()

    async def block() -> None:
        async with pool.transaction(limit=20) as conn:
            await conn.execute("SELECT FROM mails WHERE id = %(id)s FOR UPDATE", {"id": ids[2]})
            await middle.wait()

    async def retry(some: list[jobs.Job]) -> None:
        async with pool.connection(limit=20) as conn:
            await bookings.book_retries(conn, [Retry(job, retry_delay(1), "timeout") for job in some])

    async def release(some: list[jobs.Job]) -> None:
        async with pool.connection(limit=20) as conn:
            await leases.release_jobs(conn, some)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(block)
        await wait_waiting(pool, 0, holds=True)
        nursery.start_soon(retry, claimed)
        await wait_waiting(pool, 1)
        nursery.start_soon(release, claimed[::-1])
        await wait_waiting(pool, 2)
        middle.set()


async def wait_waiting(pool: Pool, count: int, *, holds: bool = False) -> None:
    """Wait until so many statements wait for a lock, or some transaction holds one."""
    sql = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'"
        if holds
        else "SELECT count(*) FROM pg_stat_activity WHERE cardinality(pg_blocking_pids(pid)) > 0"
    )
    with trio.fail_after(10):
        while True:
            async with pool.connection() as conn:
                (found,) = await (await conn.execute(sql.encode())).fetchone() or (0,)
            if found >= (count or 1):
                return
            await trio.sleep(0.02)


async def test_a_claim_that_never_ends_holds_up_its_own_mails_alone(pool: Pool, database: str) -> None:
    """As of a machine that lost power in the middle of it: the server does not know for long."""
    first = [await sign_up(pool, f"u{n}@example.com") for n in range(4)]
    async with pool.transaction(limit=60) as conn:
        await conn.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        assert len(await jobs.claim_due(conn, 4)) == 4
        assert len(await mail_status.begin_sending(conn, [new.mail_id for new in first])) == 4
        turns = {mail_schedule.address_key(SECRETS, new.email_key): new.mail_id for new in first}
        assert all((await mail_schedule.try_turns(conn, turns)).values())
        again = await mails.resend(pool, first[0].email_key)
        others = [await sign_up(pool, email) for email in (first[1].email, "x@example.com", "y@example.com")]
        async with ScriptedServer().running() as smtp, run_sending(pool, database, smtp, spaced=True):
            await smtp.wait(lambda: len(smtp.mails) >= 2)
            async with pool.connection() as other:
                assert await jobs.claim_mails(other, [new.mail_id for new in first]) == []
                assert await find_claimable(other, jobs.MAIL_JOBS, [new.mail_id for new in first]) == {
                    new.mail_id for new in first
                }
                waiting = await mails.get(pool, again), await mails.get(pool, others[0].mail_id)
            assert {mail.state for mail in waiting} <= {"queued", "sending"}
    assert {mail.recipient for mail in smtp.mails} == {"x@example.com", "y@example.com"}


@pytest.mark.parametrize(
    "statement",
    [b"ORDER BY due_at LIMIT", b"FOR NO KEY UPDATE OF r SKIP LOCKED", b"pg_try_advisory_xact_lock"],
    ids=["claim", "registrations", "turns"],
)
async def test_a_worker_whose_network_ends_inside_a_claim_holds_up_no_other_workers_mails(
    pool: Pool, database: str, statement: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of what it says after that arrives, and nothing that it is told: the claim's locks stay.

    Here for good, so that the others owe nothing to the server's limit for idle transactions.
    """
    monkeypatch.setattr(
        "regsvc.postgres.connection.begin_session", lambda conn, _limits: begin_session(conn, UNHURRIED)
    )
    await send_all(pool, [f"held{n}@example.com" for n in range(3)])
    parts = urlsplit(database)
    upstream = Path(parse_qs(parts.query)["host"][0]) / ".s.PGSQL.5432"
    async with ScriptedServer().running() as smtp, open_proxy(upstream) as proxy:
        far = f"postgresql://{parts.username}@127.0.0.1:{proxy.port}{parts.path}"
        trap = proxy.trap(statement, Way.UP, lambda: setattr(proxy, "black_hole", True))
        lost = Pool(far, application_name="lost")
        async with run_sending(lost, far, smtp, spaced=True):
            with trio.fail_after(20):
                await trap.sprung.wait()
            await wait_waiting(pool, 0, holds=True)  # the server takes the lost worker for alive
            others = [f"u{n}@example.com" for n in range(4)]
            async with run_sending(pool, database, smtp, spaced=True):
                await send_all(pool, others)
                await smtp.wait(lambda: {mail.recipient for mail in smtp.mails} >= set(others), seconds=10)
            proxy.black_hole = False
            proxy.reset()
        await lost.aclose()


async def test_nobody_waits_for_who_reads_the_breaker_in_a_transaction_that_never_ends(pool: Pool) -> None:
    async with pool.transaction(limit=60) as conn:
        await breaker.get_breaker(conn)
        with trio.fail_after(5):
            assert await note(pool, Refused("auth_failed", "auth", "535 no")) is True
            assert await note(pool, OK) is False
