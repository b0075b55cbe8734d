"""The moments that matter, found on the wire: a process is killed when the bytes that mark one pass its proxy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import trio

from tests.faults.seats import Seat
from tests.faults.stage import Stage
from tests.proxies import Proxy, Trap, Way

PATIENCE = 20.0  # seconds that a moment may take to come
_UP, _DOWN = Way.UP, Way.DOWN
# Class and method ids of AMQP 0-9-1 (section 1.8 of its reference), as a frame carries them.
ACK = b"\x00\x3c\x00\x50"
_DELIVER = b"\x00\x3c\x00\x3c"
_ACCEPTED = b"ok queued"
_ANYTHING = b""


@dataclass(frozen=True)
class Mark:
    """Bytes on one of a process's wires."""

    dependency: str
    way: Way
    pattern: bytes


@dataclass(frozen=True)
class KillPoint:
    """A moment.

    Args:
        name: in words.
        role: whose moment it is.
        marks: the bytes that lead to it, one after the other; the last never arrive.
        kills: the process is killed then; else it only loses that connection.
    """

    name: str
    role: str
    marks: tuple[Mark, ...]
    kills: bool = True

    async def strike(self, stage: Stage) -> bool:
        """Strike once, whichever process comes to it first; say whether one did."""
        ambush = _Ambush(self)
        for seat in stage.of(self.role):
            ambush.lay(seat, self.marks)
        with trio.move_on_after(PATIENCE):
            await ambush.struck.wait()
        ambush.lift()
        if ambush.victim is not None and self.kills:
            await ambush.victim.wait_ended()
        return ambush.victim is not None


class _Ambush:
    """Waits on the wires of several processes for the first of them to come to a moment."""

    def __init__(self, point: KillPoint) -> None:
        self.struck = trio.Event()
        self.victim: Seat | None = None
        self._point = point
        self._traps: list[tuple[Proxy, Trap]] = []

    def lay(self, seat: Seat, marks: Sequence[Mark]) -> None:
        """Wait for the first of these marks, then for the others."""
        mark, *others = marks
        wire = seat.wires[mark.dependency]

        def advance() -> None:
            self.lift()
            if others:
                self.lay(seat, others)
                return
            self.victim = seat
            if self._point.kills:
                seat.kill()
            self.struck.set()

        trap = wire.trap(mark.pattern, mark.way, advance, forward=bool(others))
        self._traps.append((wire, trap))

    def lift(self) -> None:
        """Wait no more."""
        for wire, trap in self._traps:
            wire.disarm(trap)
        self._traps.clear()


def _point(name: str, role: str, *marks: tuple[str, Way, bytes], kills: bool = True) -> KillPoint:
    return KillPoint(name, role, tuple(Mark(*mark) for mark in marks), kills)


KILL_POINTS = (
    # A sign-up is one statement, which is a transaction by itself, and ends with a NOTIFY.
    _point("kill -9 before a sign-up is sent", "api", ("postgres", _UP, b"mail_due")),
    _point("kill -9 after its commit, before the 201", "api", ("postgres", _DOWN, b"pg_notify")),
    _point("kill -9 after publish, before its confirm", "any", ("broker", _DOWN, ACK)),
    _point(
        "kill -9 after the confirm, before it is noted",
        "any",
        ("broker", _DOWN, ACK),
        ("postgres", _UP, _ANYTHING),
    ),
    _point(
        "kill -9 after delivery, before the claim",
        "worker",
        ("broker", _DOWN, _DELIVER),
        ("postgres", _UP, _ANYTHING),
    ),
    _point("kill -9 after the claim, before SMTP", "worker", ("mail", _UP, b"MAIL FROM")),
    _point("kill -9 inside DATA", "worker", ("mail", _UP, b"MIME-Version")),
    _point("kill -9 after the final dot, before 250", "worker", ("mail", _DOWN, _ACCEPTED)),
    _point(
        "kill -9 after 250, before the commit",
        "worker",
        ("mail", _DOWN, _ACCEPTED),
        ("postgres", _UP, b"COMMIT"),
    ),
    _point(
        "kill -9 after the commit, before the ack",
        "worker",
        ("mail", _DOWN, _ACCEPTED),
        ("broker", _UP, ACK),
    ),
)

KEYED_POINTS = (
    _point("kill -9 before a provider has the request", "worker", ("mail", _UP, b"Idempotency-Key")),
    _point("kill -9 inside the request", "worker", ("mail", _UP, b"regsvc_mail")),
    _point("kill -9 after a provider took the mail, before its answer", "worker", ("mail", _DOWN, b"kept-")),
    _point(
        "kill -9 after a provider's answer, before the commit",
        "worker",
        ("mail", _DOWN, b"kept-"),
        ("postgres", _UP, b"COMMIT"),
    ),
)
"""Moments of a route by a provider's API that knows mails by an idempotency key."""

CUT_POINTS = (
    _point("PostgreSQL cut before a COMMIT arrives", "worker", ("postgres", _UP, b"COMMIT"), kills=False),
    _point("PostgreSQL cut after a COMMIT", "worker", ("postgres", _DOWN, b"COMMIT"), kills=False),
    _point("mail server cut inside DATA", "worker", ("mail", _UP, b"MIME-Version"), kills=False),
    _point("mail server cut before its 250 arrives", "worker", ("mail", _DOWN, _ACCEPTED), kills=False),
    _point("RabbitMQ cut before a confirm arrives", "any", ("broker", _DOWN, ACK), kills=False),
    _point("RabbitMQ cut before an ack arrives", "worker", ("broker", _UP, ACK), kills=False),
)
