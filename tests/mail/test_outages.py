"""Two days of retries, outages and giving up, in simulated time."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from itertools import product

import pytest
import trio
from trio.testing import MockClock

from regsvc.mail.outcome import Accepted, Bounced, Delayed, Failure, Refused
from regsvc.mail.queue import breaker, jobs
from tests.mail.simulation import (
    START,
    PostOffice,
    Server,
    make_outages,
    pauses,
    simulated_clock,
)

OK = Accepted("250 ok")
LOST = Delayed("connect_failed", "connect", "no route")
BUSY = Delayed("mailbox_busy", "rcpt", "450 later")
NO_LOGIN = Refused("auth_failed", "auth", "535 wrong")
GONE = Bounced("recipient_refused", "rcpt", "550 who")

MINUTE, HOUR = 60.0, 3600.0
# From the moment the server is back until the last mail that waited is sent: the next probe, and the spreading.
RECOVERY = breaker.PROBE_EVERY + breaker.SPREAD


@asynccontextmanager
async def run_post_office(server: Server, *, seed: int = 1) -> AsyncIterator[PostOffice]:
    office = PostOffice(simulated_clock, random.Random(seed))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(office.run_mailer, server)
        yield office
        nursery.cancel_scope.cancel()


# -- one mail


async def test_a_mail_is_sent_at_once_when_nothing_is_wrong(autojump_clock: MockClock) -> None:
    async with run_post_office(lambda _: OK) as office:
        mail = office.add()
        await trio.sleep_until(HOUR)
    assert (mail.state, mail.tries) == ("sent", [START])


async def test_a_recipient_that_does_not_exist_is_tried_once(autojump_clock: MockClock) -> None:
    async with run_post_office(lambda _: GONE) as office:
        mail = office.add()
        await trio.sleep_until(72 * HOUR)
    assert (mail.state, mail.tries) == ("bounced", [START])


@pytest.mark.parametrize("seed", range(20))
async def test_a_mail_that_its_recipients_server_puts_off_is_tried_for_48_hours_and_then_given_up(
    autojump_clock: MockClock, seed: int
) -> None:
    """5 s, 30 s, 2, 10, 30 min, then hourly, each ± 20 %; the first try after 48 hours is the last."""
    async with run_post_office(lambda _: BUSY, seed=seed) as office:
        mail = office.add()
        await trio.sleep_until(72 * HOUR)
    assert mail.state == "dead"
    expected = [5, 30, 2 * MINUTE, 10 * MINUTE, 30 * MINUTE, *[HOUR] * (len(mail.tries) - 6)]
    found = [*pauses(mail.tries)]
    for pause, base in zip(found, expected, strict=True):
        assert 0.8 * base <= pause <= 1.2 * base
    assert mail.tries[-2] - START < jobs.GIVE_UP <= mail.tries[-1] - START
    assert 46 <= len(mail.tries) <= 62  # an hour is 48 to 72 minutes


# -- outages


LENGTHS = [1, 6, 20, 36, 37, 90, 10 * MINUTE, HOUR, 5 * HOUR]


@pytest.mark.parametrize(
    ("length", "mails"), [*product(LENGTHS, [1, 3, 200]), (47.9 * HOUR, 1), (47.9 * HOUR, 200)]
)
async def test_whatever_waited_for_the_server_is_sent_within_70_seconds_of_its_return(
    autojump_clock: MockClock, length: float, mails: int
) -> None:
    """However long it could not be reached, short of 48 hours, and however many or few mails waited."""
    async with run_post_office(make_outages((0, length), failure=LOST)) as office:
        for _ in range(mails):
            office.add()
        await trio.sleep_until(length + HOUR)
    back = START + timedelta(seconds=length)
    assert {mail.state for mail in office.mails.values()} == {"sent"}
    assert max(mail.sent_at for mail in office.mails.values()) <= back + RECOVERY


@pytest.mark.parametrize("mails", [1, 200])
@pytest.mark.parametrize(
    "failure",
    [
        Delayed("temporary_failure", "mail", "452 4.3.1 no room"),
        Delayed("temporary_failure", "greeting", "451 not now"),
        Delayed("auth_unavailable", "auth", "454 4.7.0 not now"),
        Refused("sender_refused", "mail", "550 5.7.30 no"),
    ],
    ids=["mail", "greeting", "auth", "refused"],
)
async def test_a_server_that_is_ill_before_rcpt_for_an_hour_has_every_mail_30_seconds_after_it_is_well(
    autojump_clock: MockClock, failure: Failure, mails: int
) -> None:
    async with run_post_office(make_outages((0, HOUR), failure=failure)) as office:
        for _ in range(mails):
            office.add()
        await trio.sleep_until(2 * HOUR)
    assert {mail.state for mail in office.mails.values()} == {"sent"}
    assert max(mail.sent_at for mail in office.mails.values()) <= START + timedelta(hours=1, seconds=30)


@pytest.mark.parametrize("hours", [1, 72])
async def test_a_server_that_refuses_us_burns_no_mail_however_long(
    autojump_clock: MockClock, hours: int
) -> None:
    async with run_post_office(make_outages((0, hours * HOUR), failure=NO_LOGIN)) as office:
        for _ in range(20):
            office.add()
        await trio.sleep_until(hours * HOUR + HOUR)
    back = START + timedelta(hours=hours)
    assert max(mail.sent_at for mail in office.mails.values()) <= back + RECOVERY


@pytest.mark.parametrize("mails", [1, 100])
async def test_a_server_that_is_away_for_more_than_48_hours_is_waited_for_no_longer(
    autojump_clock: MockClock, mails: int
) -> None:
    """Half an hour is how long a mail is held before it is looked at again."""
    async with run_post_office(make_outages((0, 50 * HOUR), failure=LOST)) as office:
        for _ in range(mails):
            office.add()
        await trio.sleep_until(51 * HOUR)
    assert {mail.state for mail in office.mails.values()} == {"dead"}
    for mail in office.mails.values():
        assert jobs.GIVE_UP <= mail.changed_at - START <= jobs.GIVE_UP + breaker.HOLD


async def test_during_an_outage_one_mail_in_ten_seconds_is_tried_however_many_wait(
    autojump_clock: MockClock,
) -> None:
    async with run_post_office(make_outages((0, 6 * HOUR), failure=LOST)) as office:
        for minute in range(300):
            office.add()
            await trio.sleep_until(minute * MINUTE)  # and more of them come in for most of that time
        await trio.sleep_until(6 * HOUR - 1)
        tried = list(office.tries)
        assert office.state.open
        await trio.sleep_until(6 * HOUR + RECOVERY.total_seconds())
    assert {mail.state for mail in office.mails.values()} == {"sent"}
    first_probe = next(n for n, moment in enumerate(tried) if moment - START > 5 * timedelta(minutes=1))
    assert min(pauses(tried[first_probe:])) >= 10
    assert len(tried) <= 6 * HOUR / 10 + 20
    assert len(office.tries) == len(tried) + 300  # each is accepted at its first try when the server is back


async def test_a_lone_mail_is_tried_at_once_and_then_every_ten_seconds(autojump_clock: MockClock) -> None:
    async with run_post_office(make_outages((0, HOUR), failure=LOST)) as office:
        mail = office.add()
        await trio.sleep_until(2 * HOUR)
    first, *rest = pauses(mail.tries)
    assert 4 <= first <= 6
    assert max(rest) < 10.5
    assert mail.sent_at - START <= timedelta(hours=1, seconds=10)


@pytest.mark.parametrize("away", [3, 7, 20, 45, 70, 150])
async def test_a_lone_mail_leaves_within_ten_seconds_of_its_servers_return(
    autojump_clock: MockClock, away: float
) -> None:
    """There is no crowd to spread over a minute."""
    async with run_post_office(make_outages((0, away), failure=LOST)) as office:
        mail = office.add()
        await trio.sleep_until(away + HOUR)
    assert mail.sent_at - START <= timedelta(seconds=away + 10.5)


@pytest.mark.parametrize("seed", range(25))
async def test_however_the_server_comes_and_goes_a_minute_and_ten_seconds_of_it_are_enough(
    autojump_clock: MockClock, seed: int
) -> None:
    """Every mail is sent by the first time the server stays for that long after the sign-up; none is sent twice."""
    rng = random.Random(seed)
    outages: list[tuple[float, float]] = []
    stays: list[tuple[float, float]] = []
    moment = 0.0
    while moment < 10 * HOUR:
        up, down = (10 ** rng.uniform(0, 3.5) for _ in range(2))
        stays.append((moment, moment + up))
        outages.append((moment + up, moment + up + down))
        moment += up + down
    stays.append((moment, moment + HOUR))
    failure: Failure = rng.choice(
        [LOST, Delayed("timeout", "dot"), Delayed("service_unavailable", "greeting", "421")]
    )
    async with run_post_office(make_outages(*outages, failure=failure), seed=seed) as office:
        for second in sorted(rng.uniform(0, moment) for _ in range(rng.choice([1, 5, 60]))):
            await trio.sleep_until(second)
            office.add()
        await trio.sleep_until(moment + HOUR)
    enough = RECOVERY.total_seconds()
    for mail in office.mails.values():
        born, sent = ((at - START).total_seconds() for at in (mail.created_at, mail.sent_at))
        assert sent <= next(
            max(begin, born) + enough for begin, end in stays if end - max(begin, born) >= enough
        )
        assert (
            len(
                [
                    at
                    for at in mail.tries
                    if not any(b <= (at - START).total_seconds() < e for b, e in outages)
                ]
            )
            == 1
        )
