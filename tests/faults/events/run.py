"""Events while processes are killed, the broker is wiped and receivers refuse."""

from __future__ import annotations

import random
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from uuid import UUID

import trio

from regsvc.accounts.audit.record import By
from regsvc.accounts.events.webhooks import add_webhook
from regsvc.postgres.connection import Connection
from regsvc.security.tokens import Secrets
from tests.faults.events.books import EXCHANGE, Books, Entry
from tests.faults.events.consumer import NAME, consume
from tests.faults.events.points import POINTS
from tests.faults.events.receiver import Moment, Receiver
from tests.faults.stage import Stage, open_stage
from tests.programs import clean_environ
from tests.services import SECRET

Say = Callable[[str], None]
Strike = Callable[[], Awaitable[bool | None]]
PEOPLE = 400  # so many that a subject that waits for a lease keeps few others
CHANGES = 12.0  # a second
SIGN_UPS = 1.0  # a second
PATIENCE = 20.0  # seconds that a moment may take to come
_CONSUMED = 10.0  # seconds that a consumer may be behind
_LULL = 0.5  # seconds before a round, so that it meets traffic of its own
_OPEN = "state IN ('queued', 'sending', 'delayed')"


@dataclass
class EventRun:
    """Runs faults on a stage whose events go to an exchange and a webhook, and keeps the verdict.

    Args:
        stage: where.
        books: of the events.
        receiver: of the webhook.
        people: the users that are changed all the time.
        say: is told how it goes.
        rng: chooses at random.
        until: by Trio's clock; no further round begins after it.
    """

    stage: Stage
    books: Books
    receiver: Receiver
    people: list[UUID]
    say: Say
    rng: random.Random
    until: float = float("inf")
    changing: bool = True

    async def run(self, name: str, strike: Strike, rounds: int, *, heals: bool = False) -> None:
        """Let one fault strike so often."""
        ((first,),) = await self.stage.query("SELECT coalesce(max(n), 0) + 1 FROM events")
        entry = Entry(name, trio.current_time(), first, ended=trio.current_time())
        self.books.entries.append(entry)
        self.changing = True
        self.stage.load.go()
        for _ in range(rounds):
            if trio.current_time() > self.until:
                break
            await trio.sleep(_LULL)
            if await strike() is False:
                entry.missed += 1
            else:
                entry.rounds += 1
        entry.ended = trio.current_time()
        if heals:
            await self.heal()
        self.say(
            f"{name}: {entry.rounds} rounds, {entry.missed} missed, {trio.current_time() - entry.began:.0f} s"
        )

    async def kill_at_random(self) -> bool:
        """Kill one of the processes at any moment, at half of the times at one that matters."""
        await trio.sleep(self.rng.uniform(0, 1.5))
        if self.rng.random() < 0.5:
            _, strike = self.rng.choice(_list_points(self))
            return await strike() is not False
        seat = self.rng.choice(self.stage.seats)
        await seat.wait_alive()
        seat.kill()
        await seat.wait_ended()
        return True

    async def wipe_broker(self, *, hurried: bool = False) -> None:
        """Have the broker lose everything and come back; an operator repeats what its queues may have lost."""
        await self._check_noted()
        since = datetime.now(UTC)
        await self.stage.ctl("wipe")
        await trio.sleep(1 if hurried else 2)
        await self.heal(lost=since, hurried=hurried)

    async def restart_broker(self) -> None:
        """Kill the broker, and start it again with what it had."""
        await self.stage.ctl("flush")
        await self.stage.ctl("kill")
        await trio.sleep(2)
        await self.stage.ctl("start")

    async def refuse(self) -> None:
        """Have the receiver refuse everything for a while."""
        self.receiver.refusing = True
        await trio.sleep(3)
        self.receiver.refusing = False

    async def heal(
        self, *, lost: datetime | None = None, hurried: bool = False, seconds: float = 200
    ) -> None:
        """Stop the traffic and wait until every event is delivered; what waits for its next attempt goes at once.

        Args:
            lost: when the broker lost what its queues held; what happened since is repeated.
            hurried: wait for no lease.
            seconds: after which it counts as not healed.
        """
        self.changing = False
        if hurried:
            await self._pass_time()
        if not await self.stage.heal():
            self.books.wrong.append(f"mails not sent in {self.books.entries[-1].name!r}")
        await self._wait_delivered(seconds)
        if lost is not None:
            await self._replay(lost)
            await self._wait_delivered(seconds)
        with trio.move_on_after(20) as waiting:
            while await self._undelivered():  # noqa: ASYNC110 - a broker's queue
                await trio.sleep(0.1)
        if waiting.cancelled_caught:
            self.books.wrong.append(f"the exchange did not bring all in {self.books.entries[-1].name!r}")

    async def _pass_time(self) -> None:
        """Have all leases expire while no process runs, and start the processes again."""
        await self.stage.load.pause()
        for seat in self.stage.seats:
            seat.hold()
            seat.kill()
        for seat in self.stage.seats:
            await seat.wait_ended()
        for table in ("event_deliveries", "mails"):
            await self.stage.query(f"UPDATE {table} SET due_at = now() WHERE {_OPEN}")
        for seat in self.stage.seats:
            seat.release()
        await self.stage.wait_ready()

    async def judge(self) -> list[str]:
        """Compare the books and return what is wrong, in words."""
        seats = self.stage.seats
        wrong = await self.books.judge(self.stage.query)
        wrong += [surprise for seat in seats for surprise in seat.surprises]
        wrong += [f"{s.name}: {count} tracebacks in its log" for s in seats if (count := s.tracebacks())]
        return wrong

    async def change_people(self) -> None:
        """Change users until cancelled, whenever that is wanted."""
        numbers = iter(range(sys.maxsize))
        while True:
            await trio.sleep(1 / CHANGES)
            if self.changing:
                user = self.rng.choice(self.people)
                await self.stage.query(
                    "UPDATE users SET name = %s WHERE id = %s", f"Ann {next(numbers)}", user
                )
                self.books.changes[str(user)] += 1

    async def _wait_delivered(self, seconds: float) -> None:
        with trio.move_on_after(seconds):
            while True:
                ((left, waiting),) = await self.stage.query(
                    f"SELECT count(*), count(*) FILTER (WHERE state = 'delayed') FROM event_deliveries WHERE {_OPEN}"
                )
                if not left:
                    return
                if waiting:
                    await self.stage.query(
                        "UPDATE event_deliveries SET due_at = now() WHERE state IN ('queued', 'delayed')"
                    )
                await trio.sleep(0.3)
        self.books.wrong.append(f"events not delivered in {self.books.entries[-1].name!r}")

    async def _check_noted(self) -> None:
        """See that what is noted as taken has come: after a wipe what was lost before could not be told apart."""
        rows = await self.stage.query(
            "SELECT event_id FROM event_deliveries d JOIN event_sinks s ON s.id = d.sink_id"
            " WHERE s.kind = 'exchange' AND d.state = 'delivered'"
        )
        missing = {str(id_) for (id_,) in rows}
        with trio.move_on_after(_CONSUMED):
            while missing := {id_ for id_ in missing if not self.books.has_come(EXCHANGE, id_)}:  # noqa: ASYNC110
                await trio.sleep(0.05)
        self.books.wrong += [f"noted as taken by the exchange, and never brought: {id_}" for id_ in missing]

    async def _undelivered(self) -> bool:
        ids = {str(id_) for (id_,) in await self.stage.query("SELECT id FROM events")}
        return any(not self.books.has_come(EXCHANGE, id_) for id_ in ids)

    async def _replay(self, since: datetime) -> None:
        rows = await self.stage.query("SELECT id, at FROM events")
        self.books.brought_again |= {
            str(id_) for id_, _ in rows if not self.books.has_come(EXCHANGE, str(id_))
        }
        oldest = min([at for id_, at in rows if str(id_) in self.books.brought_again], default=since)
        await trio.run_process(
            [sys.executable, "-m", "regsvc", "events", "replay", "--since", min(oldest, since).isoformat()],
            env=clean_environ(self.stage.seats[0].environ),
            capture_stdout=True,
        )


@asynccontextmanager
async def open_run(folder: Path, root: Path, say: Say, seed: int) -> AsyncIterator[EventRun]:
    """Run a stage with an exchange, its consumer and a webhook as long as the block lasts."""
    books = Books()
    settings = {"events_exchange": NAME, "webhooks_allow": "127.0.0.0/8"}
    async with (
        open_stage(folder, root, pace=SIGN_UPS, settings=settings) as stage,
        Receiver(books, stage.seats).running() as receiver,
        trio.open_nursery() as nursery,
    ):
        await nursery.start(consume, stage.broker.url(), books)
        with trio.fail_after(PATIENCE):
            while not await stage.query("SELECT id FROM event_sinks"):  # noqa: ASYNC110 - rows of another process
                await trio.sleep(0.1)
        receiver.secret = await _add_webhook(stage.postgres.conninfo, receiver.url)
        people = [
            id_
            for (id_,) in await stage.query(
                "INSERT INTO users (id, email, email_key, name, password_hash)"
                " SELECT gen_random_uuid(), n || '@example.org', n || '@example.org', 'Ann', '!'"
                " FROM generate_series(1, %s) n RETURNING id",
                PEOPLE,
            )
        ]
        run = EventRun(stage, books, receiver, people, say, random.Random(seed))
        nursery.start_soon(run.change_people)
        yield run
        nursery.cancel_scope.cancel()


async def _add_webhook(conninfo: str, url: str) -> str:
    async with await Connection.connect(conninfo) as conn, conn.transaction():
        _, secret = await add_webhook(
            conn, Secrets(SECRET.encode(), None), "faults", url, types=None, by=By("operator")
        )
    return secret


def _list_points(run: EventRun) -> list[tuple[str, Strike]]:
    return [
        *[(point.name, partial(point.strike, run.stage)) for point in POINTS],
        *[
            (f"webhook: kill -9 {moment.value}", partial(run.receiver.strike, moment, patience=PATIENCE))
            for moment in Moment
        ],
    ]


async def run_short(run: EventRun) -> None:
    """Let every fault strike once."""
    for name, strike in _list_points(run):
        await run.run(name, strike, 1)
    await run.run("RabbitMQ wiped", partial(run.wipe_broker, hurried=True), 1)


async def run_long(run: EventRun, kills: int, seed: int) -> None:
    """Kill processes so often: at the moments that matter in turn, and for a third of the kills at random."""
    points = _list_points(run)
    each = kills * 2 // 3 // len(points)
    for name, strike in points:
        await run.run(name, strike, each)
    await run.heal()
    await run.run("RabbitMQ killed and started", run.restart_broker, 2, heals=True)
    await run.run("RabbitMQ wiped", run.wipe_broker, 2, heals=True)
    await run.run("webhook: its receiver refuses everything for 3 s", run.refuse, 2, heals=True)
    await run.run(
        f"kill -9 at random (seed {seed})", run.kill_at_random, kills - each * len(points), heals=True
    )
