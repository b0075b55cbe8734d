"""How often a request asks PostgreSQL, counted on the wire: time is a fact about machines, a round trip is not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from tests.databases import run_sql
from tests.postgres.wire import Wire, open_wire
from tests.services import PASSWORD, Service, run_test_service

HTTP = "regsvc http"  # the connections of requests


@asynccontextmanager
async def run_watched(database: str, folder: Path) -> AsyncIterator[tuple[Service, Wire]]:
    """Run the service with its limits on, its connections watched."""
    async with open_wire(database) as wire:
        environ = {
            "REGSVC_RATE_LIMITS": "on",
            "REGSVC_TRUSTED_PROXIES": "127.0.0.1/32",
            "REGSVC_DATABASE_LISTEN_URL": database,
        }
        async with run_test_service(wire.conninfo(), folder, environ) as service:
            yield service, wire


@pytest.fixture
async def watched(database: str, tmp_path: Path) -> AsyncIterator[tuple[Service, Wire]]:
    """A running service and what it sends to PostgreSQL."""
    async with run_watched(database, tmp_path) as found:
        yield found


async def test_reading_the_profile_takes_one_round_trip(watched: tuple[Service, Wire]) -> None:
    service, wire = watched
    await service.confirm()
    header = await service.log_in()
    for _ in range(8):  # until it is prepared on the connection
        await service.client.get("/api/v1/me", headers=header)
    wire.take(HTTP)
    for _ in range(3):
        assert (await service.client.get("/api/v1/me", headers=header)).status_code == 200
    assert len(wire.take(HTTP)) == 3


async def test_a_login_takes_two_round_trips(watched: tuple[Service, Wire]) -> None:
    """One that counts it and finds the credentials, before the password is checked, and one for all that it writes."""
    service, wire = watched
    await service.confirm()
    for client in range(8):
        await log_in_from(service, client)
    wire.take(HTTP)
    await log_in_from(service, 8)
    trips = wire.take(HTTP)
    assert len(trips) == 2, trips


async def log_in_from(service: Service, client: int) -> None:
    """Log in as a client of its own, for the limits count by client."""
    headers = {"X-Forwarded-For": f"192.0.2.{client}"}
    answer = await service.post("/login", {"email": "ann@example.com", "password": PASSWORD}, headers)
    assert answer.status_code == 200, answer.text


async def test_a_sign_up_takes_two_round_trips(watched: tuple[Service, Wire]) -> None:
    """One for the limits, which count it whatever follows, and one for all that it writes."""
    service, wire = watched
    for number in range(8):
        await service.sign_up(f"ann{number}@example.com")
    wire.take(HTTP)
    assert (await service.sign_up("bob@example.com")).status_code == 201
    trips = wire.take(HTTP)
    assert len(trips) == 2, trips
    assert not any("BEGIN" in texts or "COMMIT" in texts for texts in trips)


async def test_viewers_of_the_console_share_what_it_reads(
    watched: tuple[Service, Wire], database: str
) -> None:
    """Each viewer costs what it takes to know them, whatever the overview reads."""
    service, wire = watched
    await service.confirm()
    run_sql(database, "UPDATE users SET role = 'admin'")
    form = {"email": "ann@example.com", "password": PASSWORD}
    await service.client.post("/login", data=form, headers={"Sec-Fetch-Site": "same-origin"})
    for _ in range(8):  # until its statements are prepared
        await service.client.get("/account")
        assert (await service.client.get("/admin")).status_code == 200
    wire.take(HTTP)
    await service.client.get("/admin/templates")
    known = len(wire.take(HTTP))

    async def view() -> None:
        assert (await service.client.get("/admin")).status_code == 200

    for viewers in (1, 20):
        async with trio.open_nursery() as nursery:
            for _ in range(viewers):
                nursery.start_soon(view)
        trips = len(wire.take(HTTP))
        assert trips <= viewers * known + 20, (viewers, known, trips)
