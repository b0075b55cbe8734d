"""Which faults there are, how often each strikes in the short and in the long form, and the verdict."""

from __future__ import annotations

import random
import signal
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from tests.faults import accounts, dependencies, mail_servers
from tests.faults.kill_points import CUT_POINTS, KILL_POINTS, KillPoint
from tests.faults.ledger import Entry, print_table
from tests.faults.mail_servers import Misbehave
from tests.faults.stage import DEAD, QUEUE, Stage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SECTIONS = ("points", "cuts", "stops", "outages", "broker", "postgres", "mail", "random")
Say = Callable[[str], None]
_LULL = 1.0  # seconds of peace before a round, so that it meets traffic of its own
_ROLL_EVERY = 12.0
STOP_SECONDS = 25.0  # that a process has to end when asked


@dataclass(frozen=True)
class Fault:
    """One line of the table.

    Args:
        name: in words.
        run: strikes once; may say False when it did not come to that.
        rounds: how often.
        heals: wait afterwards until nothing is left to be done, so that the recovery is this fault's alone.
    """

    name: str
    run: Callable[[Stage], Awaitable[bool | None]]
    rounds: int = 1
    heals: bool = False


def _points(points: Sequence[KillPoint], rounds: int) -> list[Fault]:
    def strike(point: KillPoint) -> Callable[[Stage], Awaitable[bool]]:
        async def run(stage: Stage) -> bool:
            began = trio.current_time()
            struck = await point.strike(stage)
            if not point.kills and point.marks[0].dependency == "mail":
                await stage.note_lost_answers(since=began)
            return struck

        return run

    return [Fault(point.name, strike(point), rounds) for point in points]


def kills(rounds: int) -> list[Fault]:
    """Kills at every moment that matters."""
    return [
        *_points(KILL_POINTS, rounds),
        Fault("kill -9 during the confirm POST", accounts.kill_while_confirming, rounds),
        Fault("kill -9 during refresh rotation", accounts.kill_while_refreshing, rounds),
    ]


def random_kills(rounds: int, seed: int) -> Fault:
    """Kills of whichever process at whatever moment, half of them at one of the moments that matter."""
    rng = random.Random(seed)

    async def run(stage: Stage) -> None:
        await trio.sleep(rng.uniform(0, 2.5))
        if rng.random() < 0.5 and await rng.choice(KILL_POINTS).strike(stage):
            return
        seat = rng.choice([*stage.seats, *stage.of("worker")])
        await seat.wait_alive()
        seat.kill()
        await seat.wait_ended()

    return Fault(f"kill -9 at random (seed {seed})", run, rounds)


def cuts(rounds: int) -> list[Fault]:
    """Connections cut at the moments that matter, and all at once."""
    return [
        *_points(CUT_POINTS, rounds),
        *[
            Fault(f"{name}: all connections reset", dependencies.reset_wires(wire), rounds)
            for name, wire in (("PostgreSQL", "postgres"), ("RabbitMQ", "broker"), ("mail server", "mail"))
        ],
    ]


def broker(*, long: bool) -> list[Fault]:
    """What can befall RabbitMQ."""
    down = 15.0 if long else 2.0
    return [
        *(
            [Fault("RabbitMQ stopped and started", dependencies.restart_broker(down=down), heals=True)]
            if long
            else []
        ),
        Fault("RabbitMQ killed and started", dependencies.kill_broker(down=down), heals=long),
        Fault("queue deleted", dependencies.delete_queue, 3 if long else 1, heals=long),
        Fault("queue deleted with messages in it", dependencies.delete_full_queue, heals=long),
        Fault("queue purged, connections left", dependencies.purge, heals=long),
        Fault("queue purged, connections closed", dependencies.purge_and_reconnect, heals=long),
        Fault("RabbitMQ: memory alarm", dependencies.raise_alarm(seconds=25 if long else 3), heals=long),
        Fault(
            "RabbitMQ: connections closed every 2 s",
            dependencies.close_connections(seconds=60 if long else 10),
            heals=long,
        ),
        *(
            [Fault("RabbitMQ: black hole for 40 s", dependencies.swallow("broker", seconds=40), heals=True)]
            if long
            else []
        ),
    ]


def postgres(*, long: bool) -> list[Fault]:
    """What can befall PostgreSQL."""
    rounds = 3 if long else 1
    return [
        Fault(
            "PostgreSQL restarted (immediate)",
            dependencies.restart_postgres(signal.SIGQUIT),
            rounds,
            heals=long,
        ),
        Fault("PostgreSQL sessions terminated", dependencies.end_backends, 5 if long else 2, heals=long),
        Fault("PostgreSQL read-only", dependencies.make_read_only(seconds=8 if long else 3), heals=long),
        *(
            [
                Fault(
                    "PostgreSQL: black hole for 20 s",
                    dependencies.swallow("postgres", seconds=20),
                    heals=True,
                )
            ]
            if long
            else []
        ),
    ]


def mail(*, long: bool) -> list[Fault]:
    """What a mail server can do wrong."""
    if long:
        wrongs = [
            ("says 4xx at each step", Misbehave(mail_servers.TEMPORARY)),
            ("says 5xx at each step", Misbehave(mail_servers.PERMANENT)),
            ("falls silent at each step", Misbehave(mail_servers.SILENT)),
            ("talks garbage at each step", Misbehave(mail_servers.GARBLED)),
            ("sends a byte a second at each step", Misbehave(mail_servers.SLOW)),
            ("hangs up at each step", Misbehave(mail_servers.HANGING_UP)),
            ("resets at each step", Misbehave(mail_servers.RESETTING)),
        ]
    else:
        wrongs = [
            ("says 4xx", Misbehave(mail_servers.TEMPORARY, "MAIL", "RCPT", "DOT")),
            ("says 5xx to the recipient", Misbehave(mail_servers.PERMANENT, "RCPT")),
            (
                "talks garbage or hangs up",
                Misbehave({**mail_servers.GARBLED, **mail_servers.HANGING_UP}, "DOT", "EHLO"),
            ),
            ("falls silent", Misbehave(mail_servers.SILENT, "DOT")),
        ]
    rounds = 3 if long else 1
    return [
        *[Fault(f"mail server {name}", wrong, wrong.rounds) for name, wrong in wrongs],
        Fault("mail server hangs up after the dot, mail kept", mail_servers.keep_and_hang_up, rounds),
        Fault("mail server accepts after our deadline", mail_servers.accept_too_late, rounds, heals=long),
    ]


def outages(*, long: bool) -> list[Fault]:
    """Everything but PostgreSQL is away."""
    away = dependencies.be_away(seconds=20 if long else 3)
    return [Fault("RabbitMQ and mail server away", away, heals=long)]


def stops(rounds: int) -> list[Fault]:
    """The program is asked to end."""
    return [Fault("SIGTERM to each process in turn", dependencies.restart_in_turn, rounds)]


async def run_short(run: Suite, seed: int) -> None:
    """Let nearly every fault strike once; what takes longest to heal comes first."""
    await run.run([*kills(1), random_kills(6, seed), *outages(long=False)])
    async with run.rolling():
        await run.run(
            [*_points(CUT_POINTS, 1), *broker(long=False), *postgres(long=False), *mail(long=False)]
        )


async def run_long(run: Suite, sections: Collection[str], *, rounds: int, count: int, seed: int) -> None:
    """Let every fault of these sections strike often.

    Args:
        run: where.
        sections: some of `SECTIONS`.
        rounds: at each moment that matters.
        count: of kills at random.
        seed: of these.
    """
    alone = {
        "points": kills(rounds),
        "cuts": cuts(rounds),
        "stops": stops(rounds),
    }
    rolled = {
        "outages": outages(long=True),
        "broker": broker(long=True),
        "postgres": postgres(long=True),
        "mail": mail(long=True),
    }
    for name in [name for name in alone if name in sections]:
        await run.run(alone[name])
        await run.heal()
    async with run.rolling():
        for name in [name for name in rolled if name in sections]:
            await run.run(rolled[name])
    if "random" in sections:
        await run.run([random_kills(count, seed)])


@dataclass
class Suite:
    """Runs faults on a stage, under load, and keeps the verdict.

    Args:
        stage: where.
        say: is told how it goes.
        until: by Trio's clock; no further round begins after it.
    """

    stage: Stage
    say: Say
    until: float = float("inf")
    entries: list[Entry] = field(default_factory=list)
    unhealed: list[str] = field(default_factory=list)

    async def run(self, faults: Sequence[Fault]) -> None:
        """Let faults strike, one after the other."""
        for fault in faults:
            entry = self.stage.ledger.begin(fault.name)
            self.entries.append(entry)
            self.stage.load.go()
            began = trio.current_time()
            for _ in range(fault.rounds):
                if trio.current_time() > self.until:
                    break
                await trio.sleep(_LULL)
                if await fault.run(self.stage) is False:
                    entry.missed += 1
                else:
                    entry.rounds += 1
            entry.ended = trio.current_time()
            if fault.heals:
                await self.heal()
            took = trio.current_time() - began
            self.say(f"{fault.name}: {entry.rounds} rounds, {entry.missed} missed, {took:.0f} s")

    async def heal(self) -> None:
        """Wait until nothing is left to be done."""
        if not await self.stage.heal():
            self.unhealed.append(self.stage.ledger.entries[-1].name)

    @asynccontextmanager
    async def rolling(self) -> AsyncIterator[None]:
        """Restart one process after the other in good order as long as the block lasts, whatever else happens."""

        async def roll() -> None:
            while True:
                for seat in self.stage.seats:
                    await trio.sleep(_ROLL_EVERY)
                    seat.terminate()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(roll)
            yield
            nursery.cancel_scope.cancel()

    async def judge(self) -> list[str]:
        """Compare the books and return what is wrong, in words."""
        await self.heal()
        # Asked again: what a fault noted may still have been on its way to the books.
        await trio.sleep(1)
        ledger, seats = self.stage.ledger, self.stage.seats
        await ledger.close()
        wrong = [*ledger.violations, *ledger.failures]
        wrong += [f"not healed: {name}" for name in self.unhealed]
        wrong += [surprise for seat in seats for surprise in seat.surprises]
        wrong += [f"{s.name}: {count} tracebacks in its log" for s in seats if (count := s.tracebacks())]
        wrong += [
            f"{seat.name}: took {seat.slowest_stop:.0f} s to end when asked"
            for seat in seats
            if seat.slowest_stop > STOP_SECONDS
        ]
        waiting, dead = await self.stage.depths()
        if waiting or dead:
            wrong.append(f"{waiting} messages left in {QUEUE}, {dead} in {DEAD}")
        return wrong

    def table(self) -> str:
        """Return the table; judge first."""
        return print_table(self.entries)
