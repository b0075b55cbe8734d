"""Write mail into a Maildir on this machine, for development and for programs that read mail from a folder."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from regsvc.mail.outcome import Aborted, Accepted, Delayed, Outcome

if TYPE_CHECKING:
    from pathlib import Path

    from regsvc.mail.envelope import Envelope
    from regsvc.mail.smtp.session import BeforeDot, OnConnected

_MESSAGE_ID: Final = re.compile(rb"^Message-ID:[ \t]*<([^>\r\n]+)>", re.IGNORECASE | re.MULTILINE)
_SAFE_NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._@-]{0,126}")


class MaildirTransport:
    """Writes each mail to `new/`, named after its Message-ID so that a second attempt replaces the first.

    Args:
        path: the Maildir; created with mode 0700 if missing.
        connections: maximum number of writers, each in a thread.
    """

    def __init__(self, path: Path, *, connections: int = 4) -> None:
        self._path = path
        self._writers = trio.CapacityLimiter(connections)

    async def send(
        self,
        envelope: Envelope,
        before_dot: BeforeDot | None = None,
        on_connected: OnConnected | None = None,
    ) -> Outcome:
        """Write one mail durably and return the outcome.

        Args:
            envelope: the mail.
            before_dot: called in the Trio thread right before the mail appears; on False it does not appear.
            on_connected: called at once.
        """
        if on_connected is not None:
            on_connected()
        write = partial(_write, self._path, _file_name(envelope.data), envelope.data, before_dot)
        return await self._run(write)

    async def check(self, sender: str | None = None) -> Outcome:  # noqa: ARG002 - a folder accepts any sender
        """Create missing folders and check that they are writable."""
        return await self._run(partial(_probe, self._path))

    async def tend(self) -> None:
        """Wait until cancelled, as in the SMTP transport: nothing needs care here."""
        await trio.sleep_forever()

    async def aclose(self) -> None:
        """Do nothing: nothing stays open."""
        await trio.lowlevel.checkpoint()

    async def _run(self, work: partial[Outcome]) -> Outcome:
        try:
            return await trio.to_thread.run_sync(work, limiter=self._writers)
        except OSError as error:
            return Delayed("maildir_write_failed", "write", error.strerror or type(error).__name__)


def _file_name(data: bytes) -> str:
    header, _, _ = data.partition(b"\r\n\r\n")
    match = _MESSAGE_ID.search(header)
    name = match[1].decode("ascii", "replace") if match else ""
    # A ":" would start a Maildir's flags and a "/" a folder, so an unsafe name is hashed.
    return name if _SAFE_NAME.fullmatch(name) else hashlib.sha256(match[1] if match else data).hexdigest()


def _make_folders(maildir: Path) -> None:
    maildir.mkdir(mode=0o700, parents=True, exist_ok=True)
    for folder in ("tmp", "new", "cur"):
        (maildir / folder).mkdir(mode=0o700, exist_ok=True)


def _write(maildir: Path, name: str, data: bytes, before_dot: BeforeDot | None) -> Outcome:
    """Write to `tmp`, sync, and rename in one step. Runs in a thread."""
    _make_folders(maildir)
    draft = maildir / "tmp" / f"{name}.{secrets.token_hex(8)}"
    try:
        with os.fdopen(_create(draft), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if before_dot is not None and not trio.from_thread.run_sync(before_dot):
            return Aborted()
        # A reader moves mails it has seen to `cur` and adds flags; a second attempt replaces it there.
        seen = next((maildir / "cur").glob(f"{name}:*"), None)
        target = seen or maildir / "new" / name
        draft.replace(target)
        _sync_folder(target.parent)
    finally:
        draft.unlink(missing_ok=True)
    return Accepted(f"written to {target.parent.name}/{name.partition('@')[0]}")


def _probe(maildir: Path) -> Outcome:
    _make_folders(maildir)
    draft = maildir / "tmp" / f"probe.{secrets.token_hex(8)}"
    os.close(_create(draft))
    draft.unlink()
    return Accepted("the Maildir is writable")


def _create(file: Path) -> int:
    return os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)


def _sync_folder(folder: Path) -> None:
    """Sync a folder, so that a rename in it survives a power failure."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
