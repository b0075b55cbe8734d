"""A real Postfix, with OpenDKIM, accepts every kind of our mails and finds their signatures good.

Takes root, Debian's packages (downloaded, and unpacked in a folder of the test alone) and no port or queue of the
machine's own mail server.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.headerregistry import Address
from pathlib import Path

import pytest
import trio
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from regsvc.config.dkim_keys import load_keys
from regsvc.config.mail_url import parse_mail_url
from regsvc.mail.envelope import Envelope
from regsvc.mail.message.dkim import Signer
from regsvc.mail.message.render import Renderer
from regsvc.mail.message.samples import render_samples
from regsvc.mail.outcome import Accepted
from regsvc.mail.routes.router import Router
from regsvc.mail.transport import open_place, open_transport
from tests.suite.ports import take_port

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        os.geteuid() != 0 or shutil.which("apt-get") is None, reason="needs root and Debian's apt-get"
    ),
]

SENDER = Address(display_name="Büro Beispiel", addr_spec="no-reply@example.org")
# Users and a group that every Debian has: the machine gets none for this.
_OWNER, _GROUP, _NOBODY = "games", "staff", 65534
_QUEUES = (
    *("incoming", "active", "deferred", "defer", "bounce", "trace", "corrupt", "flush", "hold", "saved"),
    *("private", "public", "maildrop", "pid"),
)

MAIN = """
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
daemon_directory = {root}/usr/lib/postfix/sbin
command_directory = {root}/usr/sbin
shlib_directory = {root}/usr/lib/postfix
meta_directory = {folder}/conf
mail_owner = {owner}
setgid_group = {group}
default_privs = nobody
import_environment = LD_LIBRARY_PATH={libraries} MAIL_CONFIG MAIL_LOGTAG
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = mx.example.net
mydestination =
alias_maps =
local_recipient_maps =
mynetworks =
smtpd_relay_restrictions = reject_unauth_destination
virtual_mailbox_domains = example.net
virtual_mailbox_base = {folder}/mail
virtual_mailbox_maps = static:box/
virtual_uid_maps = static:{nobody}
virtual_gid_maps = static:{nobody}
virtual_minimum_uid = 1
maillog_file = /dev/stdout
in_flow_delay = 0
smtpd_milters = inet:127.0.0.1:{milter}
milter_default_action = tempfail
"""
MASTER = """
127.0.0.1:{port} inet n - n - - smtpd
postlog unix-dgram n - n - 1 postlogd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
anvil unix - - n - 1 anvil
virtual unix - n n - - virtual
tlsmgr unix - - n 1000? 1 tlsmgr
error unix - - n - - error
"""
OPENDKIM = """
Mode v
Socket inet:{milter}@127.0.0.1
TestDNSData file:{folder}/dns
AlwaysAddARHeader yes
AuthservID mx.example.net
Syslog no
InternalHosts csl:192.0.2.1
"""


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Postfix and OpenDKIM, unpacked and not installed."""
    folder = tmp_path_factory.mktemp("debs")
    (folder / "partial").mkdir()
    root = tmp_path_factory.mktemp("root")
    for each in (root, *root.parents):
        each.chmod(each.stat().st_mode | 0o711)  # Postfix's own user has to enter it
    subprocess.run(
        ["apt-get", "install", "--yes", "--no-install-recommends", "--reinstall", "--download-only",
         "-o", f"Dir::Cache::archives={folder}", "-o", "Debug::NoLocking=1", "postfix", "opendkim"],
        check=True, stdin=subprocess.DEVNULL, capture_output=True,
    )  # fmt: skip
    packages = sorted(folder.glob("*.deb"))
    assert {package.name.partition("_")[0] for package in packages} >= {"postfix", "opendkim"}
    for package in packages:
        subprocess.run(["dpkg-deb", "-x", package, root], check=True)
    return root


@dataclass
class MailServer:
    """A Postfix of our own.

    Args:
        port: where it takes mail.
        folder: its queue, and what it delivered.
    """

    port: int
    folder: Path

    def read_log(self) -> str:
        """Return what both programs said."""
        return (self.folder / "log").read_text(errors="replace")

    async def wait_delivered(self, count: int) -> list[bytes]:
        """Wait until so many mails are delivered, and return them in the order of their delivery."""
        box = self.folder / "mail" / "box" / "new"
        with trio.move_on_after(120):
            while not box.exists() or len([*box.iterdir()]) < count:  # noqa: ASYNC110 - a folder has no event
                await trio.sleep(0.1)
        assert box.exists(), self.read_log()
        assert len([*box.iterdir()]) == count, self.read_log()
        return [file.read_bytes() for file in sorted(box.iterdir(), key=lambda file: file.stat().st_mtime_ns)]


@asynccontextmanager
async def run_postfix(programs: Path, folder: Path, signer: Signer) -> AsyncIterator[MailServer]:
    """Run Postfix with OpenDKIM, which knows the records of these keys, as long as the block lasts."""
    for each in (folder, *folder.parents):
        each.chmod(each.stat().st_mode | 0o711)
    libraries = ":".join(str(programs / path) for path in ("usr/lib/postfix", *_library_folders(programs)))
    port, milter = take_port(), take_port()
    values = {
        "folder": folder,
        "root": programs,
        "owner": _OWNER,
        "group": _GROUP,
        "nobody": _NOBODY,
        "port": port,
        "milter": milter,
        "libraries": libraries,
    }
    _make_folders(folder)
    (folder / "conf" / "main.cf").write_text(MAIN.format(**values))
    (folder / "conf" / "master.cf").write_text(MASTER.format(**values))
    (folder / "opendkim.conf").write_text(OPENDKIM.format(**values))
    records = [f"{key.selector}._domainkey.{signer.domain} {key.record}\n" for key in signer.keys]
    (folder / "dns").write_text("".join(records))
    environ = {**os.environ, "LD_LIBRARY_PATH": libraries}
    commands: tuple[list[str | Path], ...] = (
        [programs / "usr/sbin/opendkim", "-f", "-x", folder / "opendkim.conf"],
        [programs / "usr/lib/postfix/sbin/master", "-c", folder / "conf", "-d"],
    )
    with (folder / "log").open("wb") as log:
        processes = [
            await trio.lowlevel.open_process(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environ
            )
            for command in commands
        ]
    server = MailServer(port, folder)
    try:
        await _wait_port(milter, processes, server)
        await _wait_port(port, processes, server)
        yield server
    finally:
        with trio.CancelScope(shield=True):
            for process in reversed(processes):
                process.terminate()
                await process.wait()


def _library_folders(programs: Path) -> list[str]:
    found = {str(file.parent.relative_to(programs)) for file in programs.glob("usr/lib/**/*.so.*")}
    return sorted(found)


def _make_folders(folder: Path) -> None:
    for name in ("conf", "data", "mail", "queue"):
        (folder / name).mkdir()
    shutil.chown(folder / "data", _OWNER)
    os.chown(folder / "mail", _NOBODY, _NOBODY)
    for name in _QUEUES:
        queue = folder / "queue" / name
        queue.mkdir(mode=0o700)
        if name != "pid":
            shutil.chown(queue, _OWNER, _GROUP if name in {"maildrop", "public"} else "root")
    (folder / "queue" / "maildrop").chmod(0o730)
    (folder / "queue" / "public").chmod(0o710)


async def _wait_port(port: int, processes: Sequence[trio.Process], server: MailServer) -> None:
    with trio.move_on_after(30):
        while all(process.returncode is None for process in processes):
            try:
                await (await trio.open_tcp_stream("127.0.0.1", port)).aclose()
            except OSError:
                await trio.sleep(0.1)
            else:
                return
    raise AssertionError(server.read_log())


@pytest.fixture(scope="module")
def signer() -> Signer:
    """A key of each algorithm."""
    keys = (rsa.generate_private_key(65537, 2048), ed25519.Ed25519PrivateKey.generate())
    pem = b"".join(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        for key in keys
    )
    return Signer("example.org", load_keys(pem.decode(), "r1 e1"))


def _results(message: bytes) -> dict[str, str]:
    """Return what the verifier found of each algorithm's signature."""
    headers = message_from_bytes(message, policy=policy.default).get_all("Authentication-Results", [])
    found = re.findall(r"dkim=(\w+)[^;]*?header\.a=([\w-]+)", " ".join(str(header) for header in headers))
    return {algorithm: result for result, algorithm in found}


def _samples() -> Iterator[tuple[str, bytes]]:
    renderer = Renderer(sender=SENDER, brand="Büro Beispiel")
    for sample in render_samples(renderer, "https://accounts.example.org"):
        yield f"{sample.kind} {sample.language}", sample.source


async def test_every_mail_in_every_language_is_accepted_with_both_signatures_good(
    programs: Path, tmp_path: Path, signer: Signer
) -> None:
    samples = dict(_samples())
    async with run_postfix(programs, tmp_path, signer) as server:
        place = parse_mail_url(f"smtp://127.0.0.1:{server.port}")
        transport = Router({"postfix": open_place(place, sign=signer.sign)})
        for name, data in samples.items():
            outcome = await transport.send(Envelope(SENDER.addr_spec, "ann@example.net", data))
            assert isinstance(outcome, Accepted), (name, outcome)
        await transport.aclose()
        delivered = await server.wait_delivered(len(samples))
    found = [_results(message) for message in delivered]
    assert found == [{"rsa-sha256": "pass", "ed25519-sha256": "pass"}] * len(samples)
    print(f"{len(samples)} mails accepted, each with two good signatures")  # noqa: T201 - the result of the command


async def test_a_mail_that_is_changed_on_its_way_fails(
    programs: Path, tmp_path: Path, signer: Signer
) -> None:
    """The verifier would not say pass to anything."""
    _, data = next(_samples())
    signed = signer.sign(data)
    changed = (
        signed.replace(b"Auto-Submitted: auto-generated", b"Auto-Submitted: no"),
        signed.replace(b"\r\nSubject: ", b"\r\nSubject: Other\r\nSubject: ", 1),
        signed.replace(b"123456", b"123457", 1),
    )
    async with run_postfix(programs, tmp_path, signer) as server:
        transport = open_transport(f"smtp://127.0.0.1:{server.port}")
        for message in changed:
            assert message != signed
            outcome = await transport.send(Envelope(SENDER.addr_spec, "ann@example.net", message))
            assert isinstance(outcome, Accepted), outcome
        await transport.aclose()
        delivered = await server.wait_delivered(len(changed))
    assert [_results(message) for message in delivered] == [
        {"rsa-sha256": "fail", "ed25519-sha256": "fail"}
    ] * len(changed)
