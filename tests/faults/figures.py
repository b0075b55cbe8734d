"""The figures of mail: an outage of everything but PostgreSQL, many mails at once, and what a claim costs."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import bcrypt
import trio

from regsvc.mail.queue import jobs
from regsvc.postgres.connection import Connection
from tests.faults.inbox import Delivery, Inbox
from tests.faults.stage import Stage, open_stage
from tests.faults.suite import Suite
from tests.postgres_servers import open_postgres

SLOWER = (
    2.0  # times as long as before may the p99 of a sign-up be during an outage; of few, a p99 says nothing
)
PROMISED = 300.0  # seconds from the return of broker and mail server until all are mailed
_COST = 10  # of the hashes here


@dataclass(frozen=True)
class Finding:
    """What there is to print, and what is wrong, in words."""

    text: str
    wrong: list[str]


@dataclass(frozen=True)
class Outage:
    """What came of signing up while the broker and the mail server are away.

    Args:
        table: the books.
        answers: how often which status was given during the outage.
        mailed_in: seconds from their return to the last mail.
        healthy: median and p99 of the answer less the hash, in seconds, before the outage.
        away: the same during the outage.
        wrong: what is wrong, in words.
    """

    table: str
    answers: Counter[int]
    mailed_in: float
    healthy: tuple[float, float]
    away: tuple[float, float]
    wrong: list[str]


async def measure_outage(folder: Path, root: Path, *, sign_ups: int, pace: float = 8.0) -> Outage:
    """Sign people up while RabbitMQ and the mail server are away the whole time, and see when they are mailed."""
    async with open_stage(folder, root, pace=pace) as stage:
        run = Suite(stage, lambda _: None)
        healthy = stage.ledger.begin("healthy")
        await _sign_up(stage, max(50, sign_ups // 5))
        healthy.ended = trio.current_time()
        await run.heal()
        away = stage.ledger.begin("broker and mail server away")
        for wire in stage.wires("mail"):
            await wire.refuse()
            wire.reset()
        await stage.ctl("flush")
        await stage.ctl("stop")
        await _sign_up(stage, sign_ups)
        await stage.load.pause()
        away.rounds = 1
        for wire in stage.wires("mail"):
            await wire.listen()
        await stage.ctl("start")
        away.ended = trio.current_time()
        run.entries += [healthy, away]
        wrong = await run.judge()
    hash_seconds = measure_hash()
    outcomes = stage.load.outcomes
    during = [outcome for outcome in outcomes if outcome.tag == away.tag]
    answers = Counter(outcome.status for outcome in during)
    if set(answers) != {201}:
        wrong.append(f"not every sign-up was a 201: {dict(answers)}")
    if away.mailed < len(during) or away.recovery > PROMISED:
        wrong.append(f"{away.mailed} of {len(during)} mailed, the last after {away.recovery:.0f} s")
    before, meanwhile = (
        summarize([o.seconds - hash_seconds for o in outcomes if o.tag == entry.tag])
        for entry in (healthy, away)
    )
    return Outage(run.table(), answers, away.recovery, before, meanwhile, wrong)


async def _sign_up(stage: Stage, count: int) -> None:
    """Let so many people sign up."""
    tag = stage.load.tag
    stage.load.go()
    await stage.load.wait_sent(tag, count)
    await stage.load.pause()


def measure_hash() -> float:
    """Return the seconds that one hash takes here, the median of some."""
    taken = []
    for _ in range(15):
        began = time.perf_counter()
        bcrypt.hashpw(b"correct horse battery", bcrypt.gensalt(_COST))
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def summarize(seconds: Sequence[float]) -> tuple[float, float]:
    """Return the median and the p99."""
    ordered = sorted(seconds)
    return statistics.median(ordered), ordered[max(0, -(-len(ordered) * 99 // 100) - 1)]


async def outage(folder: Path, long: bool) -> Finding:  # noqa: FBT001 - trio.run passes by position
    """Measure the outage."""
    found = await measure_outage(folder, folder, sign_ups=1000 if long else 60)
    if long and found.away[1] > SLOWER * found.healthy[1]:
        found.wrong.append(f"the p99 was {found.away[1] / found.healthy[1]:.1f} times as long")
    text = (
        f"{found.table}\n\n"
        f"answers while broker and mail server were away: {dict(found.answers)};"
        f" all mailed {found.mailed_in:.0f} s after both were back;"
        " POST /register less the hash, median and p99 in ms:"
        f" healthy {_milliseconds(found.healthy)}, away {_milliseconds(found.away)}"
    )
    return Finding(text, found.wrong)


def _milliseconds(seconds: Sequence[float]) -> str:
    return " and ".join(f"{value * 1000:.0f}" for value in seconds)


@dataclass(frozen=True)
class Sent:
    """How many mails were delivered how often, and in what time.

    Args:
        times: how many mails were delivered so many times.
        shares: how many each worker sent.
        seconds: from the first mail to the last.
    """

    times: Counter[int]
    shares: Counter[str]
    seconds: float


class _Tally(Inbox):
    """Keeps of each mail no more than that it came, and by whom."""

    def add(self, delivery: Delivery) -> None:
        """Count a delivery."""
        super().add(Delivery(delivery.mail_id, "", delivery.at, delivery.seat, delivery.life, b""))


async def send_many(folder: Path, root: Path, *, mails: int, workers: int, seconds: float) -> Sent:
    """Have so many workers share so many due mails, and count what arrives."""
    async with open_stage(folder, root, workers=workers, inbox=_Tally()) as stage:
        for seat in stage.of("worker"):
            seat.hold()
            seat.terminate()
        for seat in stage.of("worker"):
            await seat.wait_ended()
        await stage.query(_DUE_MAILS, mails)
        await stage.query("VACUUM ANALYZE mails, registrations")
        for seat in stage.of("worker"):
            seat.release()
        if not await stage.heal(seconds):
            raise AssertionError("not all mails were sent in time")
        deliveries = stage.inbox.deliveries
        return Sent(
            Counter(Counter(d.mail_id for d in deliveries).values()),
            Counter(d.seat for d in deliveries),
            max(d.at for d in deliveries) - min(d.at for d in deliveries),
        )


_DUE_MAILS = """
    WITH people AS (
        INSERT INTO registrations (id, email, email_key, name, locale, password_hash, origin, client)
        SELECT gen_random_uuid(), format('f0.%%s@example.org', n), format('f0.%%s@example.org', n),
               'Ann', 'en', '$regsvc$none', '192.0.2.0/24', 'curl'
          FROM generate_series(1, %s) n
        RETURNING id
    )
    INSERT INTO mails (id, registration_id, kind) SELECT gen_random_uuid(), id, 'signup' FROM people
"""


async def many(folder: Path, long: bool) -> Finding:  # noqa: FBT001 - trio.run passes by position
    """Have two and four workers share many mails."""
    mails = 100_000 if long else 2_000
    lines, wrong = [], []
    for workers in (2, 4):
        place = folder / str(workers)
        place.mkdir(mode=0o755)
        sent = await send_many(place, folder, mails=mails, workers=workers, seconds=900)
        more = sum(sent.times.values()) - sent.times[1]
        lines.append(
            f"{mails} due mails, {workers} workers: {sent.times[1]} sent once, {more} more often,"
            f" in {sent.seconds:.0f} s ({dict(sorted(sent.shares.items()))})"
        )
        if sent.times != {1: mails}:
            wrong.append(f"{workers} workers: mails by number of deliveries: {dict(sent.times)}")
    return Finding("\n".join(lines), wrong)


@dataclass(frozen=True)
class Cost:
    """What a claim does.

    Args:
        sent: how many mails have been sent before.
        plan: the plan, as PostgreSQL ran it.
        buffers: pages that it touched.
    """

    sent: int
    plan: str
    buffers: int

    @property
    def scans(self) -> str:
        """How the due mails are found."""
        lines = (line.strip(" ->") for line in self.plan.splitlines())
        return "; ".join(
            line.partition("(")[0].strip() for line in lines if " on mails" in line and "Scan" in line
        )


async def measure_claim(folder: Path, root: Path, *, sent: int, due: int = 200) -> list[Cost]:
    """Claim mails that are due beside a tenth of so many sent mails and beside all, and return what each claim does.

    The plans are those of the product's own statement, as the server's auto_explain module reports them.
    """
    async with open_postgres(folder / "pg", root, settings={"max_wal_size": "4GB"}) as server:
        connect = partial(Connection.connect, server.conninfo)
        costs = []
        for count, fresh in ((sent // 10, sent // 10), (sent, sent - sent // 10)):
            async with await connect() as conn:
                await conn.execute(_SENT_MAILS, {"count": fresh})
                await conn.execute(_DUE_REQUESTS, {"count": due})
                await conn.execute("VACUUM ANALYZE mails")
            costs.append(Cost(count, *await _explain(await connect())))
        return costs


async def _explain(conn: Connection) -> tuple[str, int]:
    said: list[str] = []
    conn.add_notice_handler(lambda notice: said.append(notice.message_primary or ""))
    async with conn:
        await conn.execute("LOAD 'auto_explain'")
        for name, value in _EXPLAIN.items():
            await conn.execute("SELECT set_config(%s, %s, false)", [name, value])
        said.clear()
        await jobs.claim_due(conn, 64)
    (plan,) = [text for text in said if 'UPDATE "mails"' in text]
    return plan, _pages(plan)


def _pages(plan: str) -> int:
    """Return the pages that a plan's topmost node touched."""
    line = next(line for line in plan.splitlines() if "Buffers: shared" in line)
    return sum(int(word.partition("=")[2]) for word in line.split() if word.startswith(("hit=", "read=")))


_EXPLAIN = {
    "client_min_messages": "log",
    "auto_explain.log_min_duration": "0",
    "auto_explain.log_analyze": "on",
    "auto_explain.log_buffers": "on",
    "auto_explain.log_timing": "off",
}
_SENT_MAILS = """
    INSERT INTO mails (id, kind, email_key, state, due_at, sent_at, sent_as, attempts)
    SELECT gen_random_uuid(), 'resend', 'ann@example.org', 'sent', NULL, now(), 'confirm', 1
      FROM generate_series(1, %(count)s)
"""
_DUE_REQUESTS = """
    INSERT INTO mails (id, kind, email_key, due_at)
    SELECT gen_random_uuid(), 'resend', 'ann@example.org', now() - interval '1 minute'
      FROM generate_series(1, %(count)s)
"""


async def plan(folder: Path, long: bool) -> Finding:  # noqa: FBT001 - trio.run passes by position
    """Look at what a claim does."""
    costs = await measure_claim(folder, folder, sent=1_000_000 if long else 50_000)
    lines = [f"claim of 64 beside {c.sent} sent mails: {c.buffers} pages; {c.scans}" for c in costs]
    return Finding("\n".join([*lines, "", costs[-1].plan]), check_claim(costs))


def check_claim(costs: Sequence[Cost]) -> list[str]:
    """Return what is wrong with what claims do: they read an index of what is due, and never the whole table."""
    wrong = [
        f"a claim beside {c.sent} sent mails reads {c.scans}" for c in costs if "mails_due" not in c.scans
    ]
    wrong += [f"a claim beside {c.sent} sent mails reads all" for c in costs if "Seq Scan on mails" in c.plan]
    few, all_of_them = costs[0].buffers, costs[-1].buffers
    if all_of_them > 2 * few:
        wrong.append(f"a claim touches {all_of_them} pages instead of {few} with ten times the mails sent")
    return wrong
