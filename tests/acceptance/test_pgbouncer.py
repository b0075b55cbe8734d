"""Behind PgBouncer in transaction mode, which lends a server for one transaction."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import httpx
import pytest
import trio

from regsvc.jobs.leading import Leadership
from regsvc.postgres.pool import Pool
from tests.acceptance.test_commands import read_json
from tests.postgres.pgbouncer import find_pgbouncer, run_pgbouncer
from tests.programs import run_program, serve_environ
from tests.services import PASSWORD, run_test_service

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SIGN_UPS = 60


@pytest.fixture(scope="session")
def pgbouncer(pytestconfig: pytest.Config) -> str:
    """The program."""
    return find_pgbouncer(pytestconfig)


@pytest.fixture
def pooled(pgbouncer: str, database: str, short_directory: Path) -> Iterator[str]:
    """The conninfo of `database` by way of PgBouncer."""
    with run_pgbouncer(pgbouncer, database, short_directory) as conninfo:
        yield conninfo


async def sign_up_many(client: httpx.AsyncClient) -> list[int]:
    """Sign up many people, six at a time, and return the statuses."""
    statuses: list[int] = []
    numbers = iter(range(SIGN_UPS))

    async def work() -> None:
        for number in numbers:
            person = {"email": f"ann{number}@example.com", "password": PASSWORD, "name": "Ann"}
            statuses.append((await client.post("/api/v1/register", json=person)).status_code)

    async with trio.open_nursery() as nursery:
        for _ in range(6):
            nursery.start_soon(work)
    return statuses


async def test_everything_works_with_a_connection_past_it_and_nothing_prepared(
    database: str, pooled: str, tmp_path: Path
) -> None:
    environ = {"REGSVC_DATABASE_LISTEN_URL": database, "REGSVC_DATABASE_PREPARE": "off"}
    async with run_test_service(pooled, tmp_path, environ) as service:
        assert await sign_up_many(service.client) == [201] * SIGN_UPS
        await service.confirm("bob@example.com")
        assert (await service.client.get("/readyz")).json()["status"] == "ok"


async def test_one_process_leads_behind_it(pooled: str) -> None:
    """A lease needs no session, which an advisory lock would."""
    pool = Pool(pooled, application_name="regsvc test", prepare=False)
    ships = [Leadership(f"process {n}") for n in range(4)]
    with ExitStack() as stack:
        for ship in ships:
            stack.enter_context(ship.of("janitor").stand())
        for _ in range(3):
            async with trio.open_nursery() as nursery:
                for ship in ships:
                    nursery.start_soon(ship.renew, pool)
            assert sum(ship.led == ["janitor"] for ship in ships) == 1
    await pool.aclose()


async def test_without_either_it_finds_out_by_itself(pooled: str, tmp_path: Path) -> None:
    """Some first requests may have to come again; none fails by a bug, and mail goes out."""
    async with run_test_service(pooled, tmp_path) as service:
        statuses = await sign_up_many(service.client)
        assert set(statuses) <= {201, 503}
        assert await sign_up_many(service.client) == [201] * SIGN_UPS
        await service.confirm("bob@example.com")
        ready = (await service.client.get("/readyz")).json()
        assert ready["status"] == "degraded"
        assert "REGSVC_DATABASE_LISTEN_URL" in ready["children"]["listener"]["last_error"]


async def test_check_proves_that_notifications_are_heard(database: str, pooled: str, tmp_path: Path) -> None:
    environ = serve_environ(pooled, tmp_path)
    for more, code in (({}, 78), ({"REGSVC_DATABASE_LISTEN_URL": database}, 0)):
        async with run_program(
            "check", "--json", folder=tmp_path, environ=environ | more, ready=False
        ) as program:
            with trio.fail_after(60):
                assert await program.process.wait() == code
            (report,) = [report for report in read_json(program.log()) if report["name"] == "postgresql"]
            assert report["ok"] is (code == 0)
            assert ("REGSVC_DATABASE_LISTEN_URL" in str(report["misconfigured"])) is (code == 78)
