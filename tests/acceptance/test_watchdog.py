"""A process whose event loop stands still is noticed, ended and started again, and nothing is lost."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from tests.acceptance.test_processes import pids_of, run_family, wait_processes
from tests.programs import Program, run_program, serve_environ, talk_to

SECONDS = 3.0  # of the watchdog


class Manager:
    """A stand-in for systemd: it takes the datagrams of a service."""

    def __init__(self, path: Path) -> None:
        self._socket = trio.socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.path = path
        self.said: list[str] = []

    async def open(self) -> None:
        """Listen."""
        await self._socket.bind(str(self.path))

    def close(self) -> None:
        """Listen no more."""
        self._socket.close()

    async def hear(self) -> str:
        """Return what is said next."""
        said: str = (await self._socket.recv(1024)).decode()
        self.said.append(said)
        return said

    async def wait(self, state: str) -> None:
        """Wait for a state."""
        with trio.fail_after(30):
            while await self.hear() != state:
                pass

    async def wait_silence(self) -> None:
        """Wait until nothing has been heard for the time of the watchdog, after which systemd ends a service."""
        with trio.fail_after(30):
            while True:
                with trio.move_on_after(SECONDS) as scope:
                    await self.hear()
                if scope.cancelled_caught:
                    return


@pytest.fixture
async def manager(short_directory: Path) -> AsyncIterator[Manager]:
    """Listen as systemd does."""
    manager = Manager(short_directory / "notify")
    await manager.open()
    yield manager
    manager.close()


@asynccontextmanager
async def run_watched(
    manager: Manager, database: str, tmp_path: Path, *arguments: str
) -> AsyncIterator[Program]:
    environ = serve_environ(database, tmp_path) | {
        "NOTIFY_SOCKET": str(manager.path),
        "WATCHDOG_USEC": str(int(SECONDS * 1e6)),
    }
    async with run_program("serve", *arguments, folder=tmp_path, environ=environ, ready=False) as program:
        yield program


async def test_a_manager_hears_when_the_service_is_ready_alive_and_stopping(
    manager: Manager, database: str, tmp_path: Path
) -> None:
    async with run_watched(manager, database, tmp_path) as program:
        await manager.wait("READY=1")
        await program.wait_ready(seconds=1)  # it is true
        for _ in range(3):
            await manager.wait("WATCHDOG=1")
        assert await program.stop() == 0
        await manager.wait("STOPPING=1")
    assert manager.said.count("READY=1") == manager.said.count("STOPPING=1") == 1


async def test_a_manager_of_several_processes_hears_of_all_at_once(
    manager: Manager, database: str, tmp_path: Path
) -> None:
    async with run_watched(manager, database, tmp_path, "--processes", "2") as program:
        await manager.wait("READY=1")
        await wait_processes(program.url, "running", "running")
        await manager.wait("WATCHDOG=1")
        assert await program.stop() == 0
    assert manager.said.count("READY=1") == 1


async def test_a_stuck_process_feeds_no_watchdog_and_its_successor_loses_nothing(
    manager: Manager, database: str, tmp_path: Path
) -> None:
    async with run_watched(manager, database, tmp_path) as stuck:
        await manager.wait("READY=1")
        async with talk_to(stuck, tmp_path) as service:
            for number in range(5):
                await service.sign_up(f"ann{number}@example.com")
            stuck.process.send_signal(signal.SIGSTOP)  # its event loop, and all that runs beside it
            await manager.wait_silence()
        stuck.process.kill()  # as systemd does
        await stuck.process.wait()
        async with run_watched(manager, database, tmp_path) as program:
            await manager.wait("READY=1")
            async with talk_to(program, tmp_path) as service:
                with trio.fail_after(90):  # a mail in hand is taken up again within 60 s
                    while any(not service.mails(f"ann{n}@example.com") for n in range(5)):  # noqa: ASYNC110
                        await trio.sleep(0.1)
            assert await program.stop() == 0


async def test_a_stuck_process_among_several_is_ended_and_replaced(database: str, tmp_path: Path) -> None:
    async with run_family(database, tmp_path, "--processes", "2") as (program, shown):
        stuck = now = pids_of(shown)["1"]
        began = trio.current_time()
        os.kill(stuck, signal.SIGSTOP)
        while now == stuck:
            now = pids_of(await wait_processes(program.url, "running", "running", failures=1))["1"]
        assert trio.current_time() - began < 40  # 10 s until it is noticed; the rest is a busy machine's
        assert program.events("process stuck: ended")
        assert await program.stop(seconds=40) == 0


async def test_without_a_manager_nothing_is_said(database: str, tmp_path: Path) -> None:
    environ = serve_environ(database, tmp_path) | {"NOTIFY_SOCKET": "nonsense", "WATCHDOG_USEC": "x"}
    async with run_program("serve", folder=tmp_path, environ=environ) as program:
        assert await program.stop() == 0
        program.check_log()
