"""More passwords than can be hashed: whoever would wait too long is told so at once, and the rest is served."""

from __future__ import annotations

from pathlib import Path

import httpx
import trio

from regsvc.security.cores import hashing_threads
from tests.services import PASSWORD, run_test_service

PLACES = 256  # in line


async def test_logins_beyond_the_line_are_503_with_a_time_to_come_back(database: str, tmp_path: Path) -> None:
    async with (
        run_test_service(database, tmp_path, {"REGSVC_BCRYPT_COST": "12"}) as service,
        httpx.AsyncClient(base_url=service.url, timeout=60, limits=httpx.Limits()) as crowd,
    ):
        await service.confirm()
        me = await service.log_in()
        shed: list[httpx.Response] = []
        first_shed = trio.Event()

        async def log_in() -> None:
            login = {"email": "ann@example.com", "password": PASSWORD}
            answer = await crowd.post("/api/v1/login", json=login)
            if answer.status_code != 200:
                shed.append(answer)
                first_shed.set()

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for _ in range(PLACES + hashing_threads() + 20):
                    nursery.start_soon(log_in)
                await first_shed.wait()
                # Nobody else waits for the line.
                assert (await service.client.get("/api/v1/me", headers=me)).status_code == 200
                nursery.cancel_scope.cancel()
            for answer in shed:
                assert answer.status_code == 503, answer.text
                assert answer.headers["Content-Type"] == "application/problem+json"
                assert answer.json()["code"] == "overloaded"
                assert int(answer.headers["Retry-After"]) > 0
            # Those who left have left the line, too.
            await service.log_in()
