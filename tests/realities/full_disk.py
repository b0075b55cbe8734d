"""A PostgreSQL whose disk is really full: a small file system that another file fills."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
import trio

from tests.postgres_servers import open_postgres
from tests.services import PASSWORD, run_test_service

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.timeout(300)

SIZE = "256m"
_SETTINGS = {"max_wal_size": "32MB", "min_wal_size": "32MB", "fsync": "off"}


@contextmanager
def mount_small(directory: Path) -> Iterator[Path]:
    """Mount a small file system."""
    if os.geteuid():
        pytest.skip("mounting needs root")
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=755", "tmpfs", directory], check=True)
    try:
        yield directory
    finally:
        subprocess.run(["umount", "-l", directory], check=True)


def fill(path: Path) -> None:
    """Write a file until there is no room left."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 65536)
        except OSError:
            pass


async def sign_up(client: httpx.AsyncClient, number: int) -> int:
    """Sign up a person and return the status."""
    body = {"email": f"ann{number}@example.com", "password": PASSWORD, "name": "Ann"}
    return (await client.post("/api/v1/register", json=body)).status_code


async def test_a_full_disk_refuses_and_loses_nothing(tmp_path: Path, short_directory: Path) -> None:
    with mount_small(short_directory / "disk") as disk:
        async with (
            open_postgres(short_directory, disk / "root", settings=_SETTINGS) as server,
            run_test_service(server.conninfo, tmp_path) as service,
        ):
            accepted = [number for number in range(5) if await sign_up(service.client, number) == 201]
            assert len(accepted) == 5
            await trio.to_thread.run_sync(fill, disk / "filler")
            statuses: list[int] = []
            with trio.fail_after(120):
                while 503 not in statuses:  # what PostgreSQL has allocated before is used up first
                    statuses.append(await sign_up(service.client, 100 + len(statuses)))
            assert set(statuses) <= {201, 503}
            accepted += [100 + number for number, status in enumerate(statuses) if status == 201]
            with trio.fail_after(30):
                while (await service.client.get("/readyz")).status_code != 503:  # noqa: ASYNC110 - a table has no event
                    await trio.sleep(0.1)
            (disk / "filler").unlink()
            with trio.fail_after(60):
                while await sign_up(service.client, 99) != 201:  # noqa: ASYNC110 - likewise
                    await trio.sleep(0.2)
            for number in [*accepted, 99]:
                assert await service.wait_mail(f"ann{number}@example.com")
            assert (await service.client.get("/readyz")).status_code == 200
