"""Reading the Maildir that mail went into: for the mailbox of `regsvc dev`.

Everything here blocks on files; run it in a thread.
"""

from __future__ import annotations

import email
import email.policy
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path
from typing import Final

from regsvc.errors import RegsvcError

LISTED: Final = 200
_NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._@-]{0,160}")
_LINK: Final = re.compile(r"^https?://\S+$", re.MULTILINE)
_CODE: Final = re.compile(r"^[0-9]{6}$", re.MULTILINE)


class NoSuchMailError(RegsvcError):
    """There is no such mail in the mailbox."""


@dataclass(frozen=True)
class ReadMail:
    """A mail as its reader sees it.

    Args:
        name: of its file, without a Maildir's flags.
        at: when it was written.
        headers: all of them, in order.
        text: its text part.
        html: its HTML part.
        source: as it was sent.
    """

    name: str
    at: datetime
    headers: list[tuple[str, str]]
    text: str
    html: str
    source: str

    @property
    def links(self) -> list[str]:
        """The links that stand alone on a line, in order."""
        return _LINK.findall(self.text)

    @property
    def code(self) -> str | None:
        """Its six digits, if it has some."""
        found = _CODE.search(self.text)
        return found[0] if found else None

    def header(self, name: str) -> str:
        """Return a header's value, or nothing."""
        return next((value for known, value in self.headers if known.lower() == name.lower()), "")


def list_mails(maildir: Path) -> list[ReadMail]:
    """Return the newest mails, the newest first."""
    files = sorted(_list_files(maildir), key=lambda file: file[0], reverse=True)
    return [_read(path) for _, path in files[:LISTED]]


def read_mail(maildir: Path, name: str) -> ReadMail:
    """Return one mail.

    Raises:
        NoSuchMailError: none has this name.
    """
    if _NAME.fullmatch(name):
        for _, path in _list_files(maildir):
            if _name_of(path) == name:
                return _read(path)
    raise NoSuchMailError


def see_version(maildir: Path) -> str:
    """Return a word that changes whenever a mail comes, goes, or is replaced."""
    times = [time for time, _ in _list_files(maildir)]
    return f"{len(times)}-{max(times, default=0)}"


def parse_mail(data: bytes, *, name: str, at: datetime) -> ReadMail:
    """Return what the octets of a mail say.

    Args:
        data: the mail.
        name: it is known by.
        at: when it was written.
    """
    message = email.message_from_bytes(data, EmailMessage, policy=email.policy.default)
    return ReadMail(
        name=name,
        at=at,
        headers=[(header, str(value)) for header, value in message.items()],
        text=_content(message, "plain"),
        html=_content(message, "html"),
        source=data.decode("utf-8", "replace"),
    )


def _list_files(maildir: Path) -> list[tuple[int, Path]]:
    found = []
    for folder in ("new", "cur"):
        for path in (maildir / folder).glob("[!.]*"):
            try:
                found.append((path.stat().st_mtime_ns, path))
            except FileNotFoundError:  # moved by another reader
                continue
    return found


def _name_of(path: Path) -> str:
    return path.name.partition(":")[0]


def _read(path: Path) -> ReadMail:
    at = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    return parse_mail(path.read_bytes(), name=_name_of(path), at=at)


def _content(message: EmailMessage, kind: str) -> str:
    part = message.get_body((kind,))
    if part is None:
        return ""
    try:
        return str(part.get_content()).replace("\r\n", "\n")
    except (LookupError, KeyError):  # a charset or type that Python does not know
        return ""
