"""RabbitMQ nodes that belong to the tests: own name, ports, epmd and directories, gone when closed.

The methods of a node block; from a Trio test call them as `await trio.to_thread.run_sync(node.kill)`.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.suite.ports import take_port
from tests.suite.ram_disk import find_ram_disk, name_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

BOOT_SECONDS = 60.0
GREETING = b"AMQP\0\0\x09\x01"  # which the server answers (AMQP 4.2.2)
MEMORY = "400MB"
CONFIGURATION = """
listeners.tcp.1 = 127.0.0.1:{port}
vm_memory_high_watermark.absolute = {memory}
disk_free_limit.absolute = 10MB
raft.wal_max_size_bytes = 16777216
log.file.level = info
"""


class PrivateBroker:
    """One RabbitMQ node that belongs to whoever made it; a module may have one for itself to destroy.

    `launch()` returns at once and `wait_ready()` waits; `start()` is both. Also a context manager.
    """

    def __init__(self) -> None:
        self.port, self._epmd_port, self._dist_port = take_port(), take_port(), take_port()
        self._directory = Path(tempfile.mkdtemp(prefix=name_folder(), dir=find_ram_disk()))
        self._attached_as: str | None = None
        self._reset()

    def describe(self) -> dict[str, str]:
        """Return what `attach` needs."""
        ports = f"{self.port} {self._epmd_port} {self._dist_port}"
        return {"ports": ports, "directory": str(self._directory)}

    @classmethod
    def attach(cls, description: Mapping[str, str], name: str) -> Self:
        """Return the node of another process, to use and control but neither to stop nor to start.

        Args:
            description: of it, by its owner's `describe()`.
            name: of this process; no other that uses the node has it.
        """
        broker = cls.__new__(cls)
        broker.port, broker._epmd_port, broker._dist_port = map(int, description["ports"].split())
        broker._directory = Path(description["directory"])
        broker._attached_as = name
        broker._reset()
        return broker

    def _reset(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._epmd: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._vhosts: Iterator[str] = iter(())
        self._batches = itertools.count()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def url(self, vhost: str = "/") -> str:
        """Return the AMQP URL of one virtual host; `guest` may do everything there."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}/{vhost.replace('/', '%2F')}"

    def fresh_url(self) -> str:
        """Return the URL of an empty virtual host; made sixteen at a time, for rabbitmqctl is slow."""
        vhost = next(self._vhosts, None)
        if vhost is None:
            batch = f"test-{self._attached_as or 'owner'}-{next(self._batches)}"
            names = [f"{batch}-{number}" for number in range(16)]
            listed = ",".join(f'<<"{name}">>' for name in names)
            everything = '<<".*">>, <<".*">>, <<".*">>'
            self.ctl(
                "eval",
                f'[begin rabbit_vhost:add(V, <<"tests">>), rabbit_auth_backend_internal:set_permissions('
                f'<<"guest">>, V, {everything}, <<"tests">>) end || V <- [{listed}]].',
            )
            self._vhosts = iter(names)
            vhost = next(self._vhosts)
        return self.url(vhost)

    def launch(self) -> None:
        """Start the node without waiting for it."""
        assert self._attached_as is None, "mark the test own_broker"
        environment = self._environment()
        (self._directory / "rabbitmq.conf").write_text(CONFIGURATION.format(port=self.port, memory=MEMORY))
        (self._directory / "plugins").write_text("[].\n")
        with (self._directory / "output").open("ab") as output:
            if self._epmd is None:
                self._epmd = subprocess.Popen(
                    [find_epmd(), "-port", str(self._epmd_port), "-address", "127.0.0.1"],
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
                wait_port(self._epmd_port, self._epmd, b"")
            self._process = subprocess.Popen(
                [str(find_scripts() / "rabbitmq-server")],
                cwd=self._directory,  # where a crash dump would go
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is for pytest, which then ends this in order
            )
        # Should the tests be killed, nobody would end the node: this reads the end of their pipe, and does.
        self._guard = subprocess.Popen(
            ["sh", "-c", 'read -r _; kill -9 "$@"; rm -rf "$0"', str(self._directory)]
            + [str(process.pid) for process in (self._process, self._epmd)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def wait_ready(self) -> None:
        """Wait until the node speaks AMQP; RuntimeError with its last words when it does not."""
        try:
            wait_port(self.port, self._process, GREETING)
        except RuntimeError as error:
            words = (self._directory / "output").read_text(errors="replace")[-2000:]
            raise RuntimeError(f"RabbitMQ did not start: {error}\n{words}") from error

    def start(self) -> None:
        """Start the node, again with the data it had, and wait until it answers."""
        self.launch()
        self.wait_ready()

    def stop(self) -> None:
        """Shut the node down in order."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the node without a word (SIGKILL)."""
        self._end(signal.SIGKILL)

    def raise_memory_alarm(self) -> None:
        """Let it think that memory is short: connections that publish are blocked."""
        self.ctl("set_vm_memory_high_watermark", "absolute", "1MB")

    def clear_memory_alarm(self) -> None:
        """Let it think that memory is plenty again."""
        self.ctl("set_vm_memory_high_watermark", "absolute", MEMORY)

    def close_connections(self) -> None:
        """Close every connection, as an operator may."""
        self.ctl("close_all_connections", "--global", "for a test")

    def wipe(self) -> None:
        """Forget every queue, exchange and message, as a new node in the place of this one would."""
        for command in ("stop_app", "reset", "start_app"):
            self.ctl(command)
        self.wait_ready()

    def flush(self) -> None:
        """Have the node note on disk which queues it has, as it does half a second after one is declared.

        A node of RabbitMQ 3.10 that is killed before leaves such a quorum queue without a leader for ever.
        """
        self.ctl("eval", "[dets:sync(T) || T <- dets:all()].")

    def ctl(self, *arguments: str) -> str:
        """Run rabbitmqctl against this node (some 0.4 s) and return what it prints."""
        done = subprocess.run(
            [str(find_scripts() / "rabbitmqctl"), "--quiet", *arguments],
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=BOOT_SECONDS,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"rabbitmqctl {arguments[0]} failed: {done.stdout}{done.stderr}")
        return done.stdout

    def close(self) -> None:
        """End node and epmd and remove their directory; leave another process's node alone."""
        if self._attached_as is not None:
            return
        self._end(signal.SIGTERM)
        if self._epmd is not None:
            self._epmd.kill()
            self._epmd.wait()
            self._epmd = None
        shutil.rmtree(self._directory, ignore_errors=True)

    def _end(self, number: signal.Signals) -> None:
        assert self._attached_as is None, "mark the test own_broker"
        process, self._process = self._process, None
        if process is None:
            return
        if self._guard is not None:
            self._guard.kill()
            self._guard.communicate()
            self._guard = None
        process.send_signal(number)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _environment(self) -> dict[str, str]:
        here = self._directory
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "C.UTF-8",
            "HOME": str(here),  # the Erlang cookie lives here
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"regsvc-{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
            "RABBITMQ_CONFIG_FILE": str(here / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(here / "advanced.config"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(here / "generated"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(here / "plugins"),
            "RABBITMQ_MNESIA_BASE": str(here / "data"),
            "RABBITMQ_LOG_BASE": str(here / "log"),
            "RUNNING_UNDER_SYSTEMD": "true",  # the script becomes the node by exec: one pid to signal
        }


def wait_port(port: int, process: subprocess.Popen[bytes] | None, greeting: bytes) -> None:
    """Wait until the port takes a connection and, where there is a greeting to send, answers it."""
    deadline = time.monotonic() + BOOT_SECONDS
    while time.monotonic() < deadline:
        if process is not None and process.poll() is not None:
            raise RuntimeError(f"it ended with {process.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5) as probe:
            if not greeting:
                return
            probe.sendall(greeting)
            if probe.recv(1):
                return
        time.sleep(0.05)  # another program's start has no event to wait for
    raise RuntimeError(f"nothing answers on port {port} after {BOOT_SECONDS:.0f} s")


def find_scripts() -> Path:
    """Return the folder of RabbitMQ's own scripts; Debian's wrappers in /usr/sbin change the user."""
    debian = Path("/usr/lib/rabbitmq/bin")
    if (debian / "rabbitmq-server").exists():
        return debian
    found = shutil.which("rabbitmq-server")
    if found is None:
        raise FileNotFoundError("rabbitmq-server")
    return Path(found).resolve().parent


def find_epmd() -> str:
    found = shutil.which("epmd") or next(map(str, Path("/usr/lib/erlang").glob("erts-*/bin/epmd")), None)
    if found is None:
        raise FileNotFoundError("epmd")
    return found
