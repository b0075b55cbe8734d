"""All clients that wait over a websocket for a registration: one reader of the database for all of a process.

A hint that something changed marks those who wait for it. Their registrations are read together, one statement for
hundreds, and shown to each who has not seen that state yet.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any
from uuid import UUID

import structlog
import trio

from regsvc.accounts.registrations.awaited import list_registrations
from regsvc.accounts.registrations.registration import FINAL, UNSENT, Registration
from regsvc.errors import DatabaseUnavailableError
from regsvc.http.server.websockets.frames import text_frame
from regsvc.http.server.websockets.parked import Parked
from regsvc.http.server.websockets.parking import Parking
from regsvc.http.server.websockets.websocket import PARK
from regsvc.http.websocket_limits import Place
from regsvc.live import LiveHub
from regsvc.postgres.pool import Pool
from regsvc.schemas.formats import timestamp
from regsvc.schemas.registrations import show_bounce

log = structlog.get_logger()

NORMAL = 1000
FAILED = 1011
RESTART = 1012
NO_HANDLE = 4401
UNKNOWN = "bad or no handle"

_BATCH = 500  # registrations per statement
_RETRY = 1.0  # seconds until the next look when the database is away


class Seat:
    """One websocket that waits; to the hub a waiter, to the server's parking the guest.

    Args:
        room: that it is in.
        registration_id: what it waits for.
        places: what it is counted by, entered already.

    Attributes:
        seen: the number of the last change that was read, 0 before the first.
        sent: whether what was read last waits for no message any more.
    """

    __slots__ = ("parked", "places", "registration_id", "room", "seen", "sent")

    def __init__(self, room: WaitingRoom, registration_id: UUID, places: Sequence[Place]) -> None:
        self.room = room
        self.registration_id = registration_id
        self.places = tuple(places)
        self.parked: Parked | None = None
        self.seen = 0
        self.sent = False

    def wake(self) -> None:
        """Ask for a look: its registration may have changed."""
        self.room.mark(self)

    def settle(self, parked: Parked, parking: Parking) -> None:
        """Begin to wait: the websocket is parked."""
        self.parked = parked
        self.room.seat(self, parking)

    def left(self) -> None:
        """Wait no longer: the websocket is closed."""
        self.room.leave(self)
        for place in self.places:
            place.__exit__()


class WaitingRoom:
    """Shows changes to all who wait in this process.

    Args:
        hub: tells of changes.
        pool: PostgreSQL.
        stopping: closes all with 1012 once it is set.
    """

    def __init__(self, hub: LiveHub, pool: Pool, stopping: trio.Event) -> None:
        self._hub = hub
        self._pool = pool
        self._stopping = stopping
        self._seats: set[Seat] = set()
        self._marked: dict[Seat, None] = {}  # in order
        self._some = trio.Event()
        self._parking: Parking | None = None

    def invite(self, extensions: Mapping[str, Any], registration_id: UUID, places: Sequence[Place]) -> None:
        """Ask the server to leave a websocket to this room when its handler returns.

        Args:
            extensions: of the websocket's scope (ASGI).
            registration_id: what it waits for.
            places: what it is counted by, entered already; they are left when it is closed.
        """
        extensions[PARK](Seat(self, registration_id, places))

    def seat(self, seat: Seat, parking: Parking) -> None:
        """Add a websocket. It is shown the present state first."""
        self._seats.add(seat)
        self._hub.join(seat.registration_id, seat)
        self.mark(seat)
        if self._parking is not parking:  # the server was started again, or for the first time
            self._parking = parking
            parking.start_soon(self._run)

    def leave(self, seat: Seat) -> None:
        """Remove a websocket."""
        if seat in self._seats:
            self._seats.remove(seat)
            self._hub.leave(seat.registration_id, seat)
        self._marked.pop(seat, None)

    def mark(self, seat: Seat) -> None:
        """Ask for a look at one."""
        self._marked[seat] = None
        self._some.set()

    async def _run(self) -> None:
        parking = self._parking
        assert parking is not None  # noqa: S101 - it runs this
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._mark_all_at_the_end)
            while True:
                await self._some.wait()
                self._some = trio.Event()
                while self._marked:
                    await self._look(parking)
                    await trio.lowlevel.checkpoint()

    async def _mark_all_at_the_end(self) -> None:
        await self._stopping.wait()
        for seat in self._seats:
            self.mark(seat)

    async def _look(self, parking: Parking) -> None:
        """Read what hundreds of the marked wait for, and show it to them."""
        batch: dict[UUID, list[Seat]] = {}
        for seat in list(islice(self._marked, _BATCH)):
            del self._marked[seat]
            batch.setdefault(seat.registration_id, []).append(seat)
        if self._stopping.is_set():
            self._close(parking, batch, RESTART)
            return
        try:
            async with self._pool.connection() as conn:
                found = await list_registrations(conn, list(batch))
        except DatabaseUnavailableError:
            for seats in batch.values():
                self._marked |= dict.fromkeys(seat for seat in seats if seat in self._seats)
            await self._wait_stopping(_RETRY)
            return
        except Exception:
            # Left to end with the room, no client would be shown anything any more.
            log.exception("live status failed")
            self._close(parking, batch, FAILED)
            return
        known = {registration.id: registration for registration in found}
        for registration_id, seats in batch.items():
            self._show(parking, seats, known.get(registration_id))

    async def _wait_stopping(self, seconds: float) -> None:
        with trio.move_on_after(seconds):
            await self._stopping.wait()

    def _show(self, parking: Parking, seats: Sequence[Seat], registration: Registration | None) -> None:
        """Show a registration to those who wait for it, and close what is over."""
        if registration is None:  # deleted: there is nothing that the handle opens
            for seat in seats:
                self._close_one(parking, seat, NO_HANDLE)
            return
        frame = b""
        for seat in seats:
            if seat.parked is not None and registration.seq > seat.seen:
                seat.seen = registration.seq
                seat.sent = registration.state not in UNSENT
                frame = frame or text_frame(json.dumps(show(registration)))
                parking.send(seat.parked, frame)
            if registration.state in FINAL:
                self._close_one(parking, seat, NORMAL)

    def _close(self, parking: Parking, batch: dict[UUID, list[Seat]], code: int) -> None:
        for seats in batch.values():
            for seat in seats:
                self._close_one(parking, seat, code)

    def _close_one(self, parking: Parking, seat: Seat, code: int) -> None:
        if seat.parked is not None:
            parking.close(seat.parked, code, UNKNOWN if code == NO_HANDLE else "")


def show(registration: Registration) -> dict[str, object]:
    """Return what a websocket shows of a registration."""
    return {
        "seq": registration.seq,
        "state": registration.state,
        "at": timestamp(registration.changed_at),
        "attempts": registration.attempts,
        "next_try_at": timestamp(registration.next_try_at),
        "reason": registration.reason,
        "expires_at": timestamp(registration.expires_at),
        "delivered_at": timestamp(registration.delivered_at),
        "bounce": show_bounce(registration),
    }
