"""A RabbitMQ of the tests' own in a container, for machines without an installed one."""

from __future__ import annotations

import subprocess

from tests.nodes import GREETING, PrivateBroker, wait_port

IMAGE = "rabbitmq:4-alpine"


class ContainerBroker(PrivateBroker):
    """The same from Docker's official image, for machines without an installed RabbitMQ."""

    @property
    def _name(self) -> str:
        return f"regsvc-test-{self.port}"

    def launch(self) -> None:
        """Create or start the container without waiting for it."""
        assert self._attached_as is None, "mark the test own_broker"
        known = _docker("ps", "--all", "--quiet", "--filter", f"name=^{self._name}$")
        if known.strip():
            _docker("start", self._name)
        else:
            _docker(
                "run", "--detach", "--name", self._name, "--publish", f"127.0.0.1:{self.port}:5672", IMAGE
            )

    def wait_ready(self) -> None:
        """Wait until the broker in the container speaks AMQP."""
        wait_port(self.port, None, GREETING)

    def stop(self) -> None:
        """Shut the broker down in order."""
        _docker("stop", "--time", "20", self._name)

    def kill(self) -> None:
        """End the broker without a word (SIGKILL)."""
        _docker("kill", self._name)

    def ctl(self, *arguments: str) -> str:
        """Run rabbitmqctl inside the container and return what it prints."""
        return _docker("exec", self._name, "rabbitmqctl", "--quiet", *arguments)

    def close(self) -> None:
        """Remove the container with its data; leave another process's alone."""
        if self._attached_as is None:
            _docker("rm", "--force", "--volumes", self._name)
        super().close()


def _docker(*arguments: str) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise RuntimeError(f"docker {arguments[0]} failed: {done.stderr}")
    return done.stdout
