"""A family of receivers that throttles for long: one mail a minute tests it, and nobody else notices."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from email.headerregistry import Address
from functools import partial
from itertools import pairwise

import pytest
import trio

from regsvc.consumer.sending.courier import Courier
from regsvc.consumer.sending.delivery import take
from regsvc.consumer.sending.letters import LetterWriter
from regsvc.mail.message.render import Renderer
from regsvc.mail.queue import breaker
from regsvc.mail.transport import open_transport
from regsvc.postgres.pool import Pool
from tests.accounts.attempts import SECRETS, sign_up
from tests.smtp_servers import Reaction, ScriptedServer

HOURS = float(os.environ.get("REGSVC_TEST_HOURS", "1"))
"""Hours that the family throttles, by the clock that the test moves."""
STEP = 20.0  # seconds of that clock between looks at what is due
THROTTLE = "421 4.7.28 Gmail has detected an unusual rate of unsolicited mail"

pytestmark = pytest.mark.timeout(3600)


@dataclass
class _Receivers(ScriptedServer):
    """A way out to many receivers, one family of which throttles."""

    now: float = 0.0
    throttling: bool = True
    offered: list[float] = field(default_factory=list)

    def reaction(self, step: str) -> Reaction | None:
        """Throttle what goes to Gmail, and note when it was offered."""
        wanted = super().reaction(step)
        if step == "RCPT" and self.commands[-1].endswith("gmail.com>"):
            self.offered.append(self.now)
            return THROTTLE if self.throttling else None
        return wanted


@asynccontextmanager
async def _run_courier(pool: Pool, url: str) -> AsyncIterator[Courier]:
    """Run a courier without anything that claims: the test does."""
    sender, stopping = Address(addr_spec="no-reply@example.org"), trio.Event()
    renderer = Renderer(sender=sender, brand="regsvc")
    courier = Courier(
        pool,
        partial(open_transport, url),
        LetterWriter(SECRETS, renderer, sender.addr_spec, "https://example.org"),
        sessions=4,
        spaced=True,
        stopping=stopping,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(courier.run)
        yield courier
        stopping.set()


async def _let_pass(pool: Pool, seconds: float) -> None:
    """Move everything that has happened, or will, that much into the past."""
    by = {"by": timedelta(seconds=seconds)}
    async with pool.transaction() as conn:
        await conn.execute(
            "UPDATE mails SET created_at = created_at - %(by)s, due_at = due_at - %(by)s WHERE state = 'delayed'",
            by,
        )
        await conn.execute(
            "UPDATE mail_families SET held_until = held_until - %(by)s, probe_at = probe_at - %(by)s", by
        )


async def _send_due(pool: Pool, courier: Courier) -> None:
    """Claim and send until nothing is due."""
    with trio.fail_after(60):
        while True:
            claim = partial(breaker.claim_next, limit=courier.free)
            taken = await take(courier, claim)
            while courier.in_hand:
                await courier.in_hand.wait_change()
            if taken is not None and not taken.claimed:
                return


async def _states(pool: Pool, pattern: str) -> list[tuple[str, int]]:
    """Return state and attempts of the mails to these addresses."""
    async with pool.connection() as conn:
        cursor = await conn.execute(
            "SELECT m.state, m.attempts FROM mails m JOIN registrations r ON r.id = m.registration_id"
            " WHERE r.email LIKE %(pattern)s",
            {"pattern": pattern},
        )
        return [(str(state), int(attempts)) for state, attempts in await cursor.fetchall()]


async def test_a_family_that_throttles_is_tested_once_a_minute_and_all_others_have_their_mail_at_once(
    pool: Pool,
) -> None:
    """`REGSVC_TEST_HOURS=24` lets it throttle for a day."""
    receivers, others = _Receivers(), 0
    async with receivers.running(), _run_courier(pool, receivers.url) as courier:
        for step in range(int(HOURS * 3600 / STEP)):
            receivers.now = step * STEP
            if step % 15 == 0:  # every five minutes
                await sign_up(pool, f"p{step}@gmail.com")
            if step % 3 == 0:  # every minute
                await sign_up(pool, f"q{step}@firm{step % 7}.example")
                others += 1
            await _send_due(pool, courier)
            assert len(receivers.mails) == others  # each in the step in which it was asked for
            await _let_pass(pool, STEP)
        throttled = list(receivers.offered)
        assert {state for state, _ in await _states(pool, "%gmail.com")} == {"delayed"}
        receivers.throttling = False
        for _ in range(int(300 / STEP)):
            receivers.now += STEP
            await _send_due(pool, courier)
            await _let_pass(pool, STEP)
    assert set(await _states(pool, "%.example")) == {("sent", 1)}
    assert {state for state, _ in await _states(pool, "%gmail.com")} == {"sent"}
    assert min(later - earlier for earlier, later in pairwise(throttled)) >= 60
    assert len(throttled) <= HOURS * 60 + 1
    assert len(throttled) >= HOURS * 60 / 3  # and it is tested
    print(f"{HOURS:g} h: {len(throttled)} tests of the family, {others} mails to others, each at once")  # noqa: T201
