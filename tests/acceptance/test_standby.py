"""The primary is killed and its synchronous standby promoted: the program goes on there, and nothing is lost."""

from __future__ import annotations

import signal
from pathlib import Path

import httpx
import psycopg
import trio

from tests.services import PASSWORD, Service, run_test_service
from tests.standbys import open_pair


async def sign_up(service: Service, address: str) -> httpx.Response:
    """Sign somebody up."""
    return await service.post("/register", {"email": address, "password": PASSWORD, "name": "Ann"})


async def test_a_promoted_standby_has_all_that_was_answered_and_takes_what_comes(
    short_directory: Path, root_directory: Path, tmp_path: Path
) -> None:
    async with open_pair(short_directory, root_directory) as pair:
        async with run_test_service(pair.url, tmp_path) as service:
            answered = []
            for number in range(5):
                answer = await sign_up(service, f"ann{number}@example.com")
                assert answer.status_code == 201, answer.text
                answered.append(answer.headers["Location"].rpartition("/")[2])
            await pair.primary.end(signal.SIGKILL)
            assert (await sign_up(service, "bob@example.com")).status_code == 503
            await pair.promote()
            with trio.fail_after(30):
                while (await sign_up(service, "cem@example.com")).status_code != 201:  # noqa: ASYNC110 - of another process
                    await trio.sleep(0.1)
            for address in ("ann0@example.com", "ann4@example.com", "cem@example.com"):
                await service.wait_mail(address)
            assert (await service.client.get("/readyz")).status_code == 200
        with psycopg.connect(pair.standby.conninfo) as connection:
            stored = {str(id_) for (id_,) in connection.execute("SELECT id FROM registrations")}
    assert set(answered) <= stored
