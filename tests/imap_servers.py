"""IMAP servers of the tests: Debian's dovecot, and a scripted one for what no good server does."""

from __future__ import annotations

import imaplib
import os
import pwd
import shutil
import signal
import ssl
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio
import trustme

from tests.polling import wait_until
from tests.suite.packages import do_without, install
from tests.suite.ports import take_port

PASSWORD = "the password of the mailbox"
USER = "bounces@example.org"
_CONFIG = """
base_dir = {folder}/run
log_path = {folder}/log
protocols = imap
listen = 127.0.0.1
ssl = required
ssl_cert = <{folder}/cert.pem
ssl_key = <{folder}/key.pem
mail_location = maildir:{folder}/mail
first_valid_uid = 1
auth_mechanisms = plain
auth_failure_delay = 0
service imap-login {{
  chroot =
  inet_listener imap {{
    port = 0
  }}
  inet_listener imaps {{
    port = {port}
    ssl = yes
  }}
}}
service anvil {{
  chroot =
}}
passdb {{
  driver = passwd-file
  args = scheme=PLAIN username_format=%u {folder}/users
}}
userdb {{
  driver = static
  args = uid=nobody gid=nogroup home={folder}/mail
}}
"""


@dataclass(frozen=True)
class Dovecot:
    """A running dovecot with one mailbox.

    Args:
        port: of IMAP over TLS.
        cafile: authority of its certificate.
    """

    port: int
    cafile: Path

    def url(self, password: str = PASSWORD, folder: str = "INBOX") -> str:
        """Return the URL of a folder."""
        user, secret = USER.replace("@", "%40"), password.replace(" ", "%20")
        return f"imaps://{user}:{secret}@127.0.0.1:{self.port}/{folder}?cafile={self.cafile}"

    @contextmanager
    def log_in(self) -> Iterator[imaplib.IMAP4_SSL]:
        """Speak to it as another client does."""
        client = imaplib.IMAP4_SSL(
            "127.0.0.1", self.port, ssl_context=ssl.create_default_context(cafile=str(self.cafile))
        )
        try:
            client.login(USER, PASSWORD)
            yield client
        finally:
            client.logout()

    def add(self, *messages: bytes, folder: str = "INBOX") -> None:
        """Deliver messages."""
        with self.log_in() as client:
            for message in messages:
                assert client.append(folder, "", "", message)[0] == "OK"

    def look(self, folder: str = "INBOX") -> list[bytes]:
        """Return flags, size and UID of every message."""
        with self.log_in() as client:
            client.select(folder, readonly=True)
            return [
                item for item in client.fetch("1:*", "(UID FLAGS RFC822.SIZE)")[1] if isinstance(item, bytes)
            ]


@pytest.fixture
async def dovecot(request: pytest.FixtureRequest) -> AsyncIterator[Dovecot]:
    """Run dovecot with an empty mailbox."""
    program = _find_dovecot()
    if program is None and os.geteuid() == 0:
        install(request.config, "dovecot-imapd")
        program = _find_dovecot()
    if program is None or os.geteuid() != 0:
        do_without("dovecot 2.3 is not installed, or these tests are not run by root")
    folder = Path(tempfile.mkdtemp(prefix="dc"))  # short, for its sockets' names
    try:
        server = _prepare(folder)
        with _run(program, folder):
            await wait_until(lambda: _answers(server), seconds=20)
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _find_dovecot() -> str | None:
    """Return the program, of a version whose configuration is known here."""
    program = shutil.which("dovecot", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        return None
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    return program if version.startswith("2.3.") else None


def _prepare(folder: Path) -> Dovecot:
    """Write configuration, certificate and an empty mailbox."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    (folder / "users").write_text(f"{USER}:{PASSWORD}\n")
    (folder / "mail").mkdir()
    nobody = pwd.getpwnam("nobody")
    os.chown(folder / "mail", nobody.pw_uid, nobody.pw_gid)
    folder.chmod(0o755)
    server = Dovecot(take_port(), folder / "ca.pem")
    (folder / "dovecot.conf").write_text(_CONFIG.format(folder=folder, port=server.port))
    return server


@contextmanager
def _run(program: str, folder: Path) -> Iterator[None]:
    process = subprocess.Popen([program, "-F", "-c", str(folder / "dovecot.conf")])
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=20)


def _answers(server: Dovecot) -> bool:
    try:
        with server.log_in():
            return True
    except (OSError, imaplib.IMAP4.error):
        return False


@dataclass
class ScriptedImap:
    """A server on a loopback port that says what it is told to.

    Args:
        tls: a server's context.
        script: by the first two words of a command, what to answer before its completion; `None` is silence, and
            what ends in `HANGS_UP` is said before the connection is closed.
        refused: commands that are answered NO, with its text.
    """

    tls: ssl.SSLContext
    script: Mapping[str, bytes | None] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    commands: list[str] = field(default_factory=list)
    answers: list[bytes] = field(default_factory=list)
    port: int = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[ScriptedImap]:
        """Serve as long as the block lasts."""
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listener.socket.getsockname()[1]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, self._serve, [listener])
            yield self
            nursery.cancel_scope.cancel()

    async def _serve(self, plain: trio.SocketStream) -> None:
        stream = trio.SSLStream(plain, self.tls, server_side=True, https_compatible=True)
        try:
            await stream.send_all(b"* OK here I am\r\n")
            buffer = b""
            while octets := await stream.receive_some(4096):
                buffer += octets
                while b"\r\n" in buffer:
                    line, _, buffer = buffer.partition(b"\r\n")
                    if not await self._answer(stream, line):
                        return
        except (trio.BrokenResourceError, ssl.SSLError):
            return
        finally:
            await trio.aclose_forcefully(stream)

    async def _answer(self, stream: trio.SSLStream[trio.SocketStream], line: bytes) -> bool:
        words = line.decode().split()
        if len(words) < 2:  # the answer to a request for more
            self.answers.append(line)
            words = self.commands[-1].split()
        else:
            self.commands.append(line.decode())
        command = " ".join(words[1:3]).upper()
        if command.startswith("AUTHENTICATE") and line.decode() == self.commands[-1]:
            await stream.send_all(b"+ \r\n")
            return True
        reply = self.script.get(command, DEFAULTS.get(command, b""))
        if reply is None:
            return True
        await stream.send_all(reply.removesuffix(HANGS_UP))
        if reply.endswith(HANGS_UP):
            return False
        status = f"NO {self.refused[command]}" if command in self.refused else "OK done"
        await stream.send_all(f"{words[0]} {status}\r\n".encode())
        return True


HANGS_UP = b"\0"
DEFAULTS = {
    "CAPABILITY": b"* CAPABILITY IMAP4rev1 AUTH=PLAIN\r\n",
    'EXAMINE "INBOX"': b"* 1 EXISTS\r\n* OK [UIDVALIDITY 7] yes\r\n* OK [UIDNEXT 2] yes\r\n",
    "UID SEARCH": b"* SEARCH 1\r\n",
}
