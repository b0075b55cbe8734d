"""The line of claimed mails: fair to domains, also when mails are set aside."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import trio
from trio.testing import MockClock

from regsvc.accounts.registrations.mail_status import Letter
from regsvc.consumer.sending.in_hand import InHand
from regsvc.consumer.sending.line import SLOW, Line
from regsvc.mail.queue.jobs import Job


def _held(email: str) -> InHand:
    job = Job(uuid4(), uuid4(), uuid4(), 1, timedelta(0))
    letter = Letter(
        job.id,
        uuid4(),
        email,
        email,
        "en",
        "192.0.2.0/24",
        "curl",
        datetime.now(UTC),
        "confirm",
        admitted=True,
        silent=False,
    )
    return InHand(job, letter, float("inf"))


async def _take(line: Line, *emails: str) -> list[InHand]:
    for email in emails:
        line.put(_held(email))
    return [await line.take() for _ in emails]


async def _takes_none(line: Line) -> bool:
    with trio.move_on_after(1) as scope:
        await line.take()
    return scope.cancelled_caught


async def test_mails_that_take_long_give_their_places_to_others_once(autojump_clock: MockClock) -> None:
    line = Line(4, 64)
    slow = await _take(line, "a@a.example", "b@b.example")
    await trio.sleep(SLOW + 0.1)
    (quick,) = await _take(line, "c@c.example")
    assert line.set_aside() == 2
    assert line.set_aside() == 0
    assert [line.done(held) for held in (*slow, quick)] == [True, True, False]


async def test_a_slow_domain_has_half_of_the_places_and_half_of_those_that_are_added(
    autojump_clock: MockClock,
) -> None:
    line = Line(4, 64)
    mails = await _take(line, "a@slow.example", "b@slow.example")
    line.put(_held("c@slow.example"))
    assert await _takes_none(line)
    await trio.sleep(SLOW + 0.1)
    assert line.set_aside() == 2
    mails += [await line.take(), *await _take(line, "d@slow.example")]
    await trio.sleep(SLOW + 0.1)
    assert line.set_aside() == 0
    line.put(_held("e@slow.example"))
    assert await _takes_none(line)
    await _take(line, "f@other.example", "g@other.example")
    assert [line.done(held) for held in mails] == [True, True, False, False]
    await line.take()


async def test_no_more_are_set_aside_than_there_are_sessions(autojump_clock: MockClock) -> None:
    """Both routes are silent then: more sessions would be of no use."""
    line = Line(2, 64)
    await _take(line, "a@a.example", "b@b.example")
    await trio.sleep(SLOW + 0.1)
    assert line.set_aside() == 2
    await _take(line, "c@c.example", "d@d.example")
    await trio.sleep(SLOW + 0.1)
    assert line.set_aside() == 0
