"""Read a Maildir, for the mailbox page of `regsvc dev`.

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
    """The mailbox has no such email."""


@dataclass(frozen=True)
class ReadMail:
    """A mail as a mail program shows it.

    Args:
        name: name of its file, without a Maildir's flags.
        at: time of writing.
        headers: all headers, in order.
        text: the text part.
        html: the HTML part.
        source: the source as sent.
    """

    name: str
    at: datetime
    headers: list[tuple[str, str]]
    text: str
    html: str
    source: str

    @property
    def links(self) -> list[str]:
        """Links that are alone on a line, in order."""
        return _LINK.findall(self.text)

    @property
    def code(self) -> str | None:
        """The six-digit code, if there is one."""
        found = _CODE.search(self.text)
        return found[0] if found else None

    def header(self, name: str) -> str:
        """Return the value of a header, or an empty text."""
        return next((value for known, value in self.headers if known.lower() == name.lower()), "")


def list_mails(maildir: Path) -> list[ReadMail]:
    """Return the latest mails, the newest first."""
    files = sorted(_list_files(maildir), key=lambda file: file[0], reverse=True)
    return [_read(path) for _, path in files[:LISTED]]


def read_mail(maildir: Path, name: str) -> ReadMail:
    """Return one mail.

    Raises:
        NoSuchMailError: no mail has this name.
    """
    if _NAME.fullmatch(name):
        for _, path in _list_files(maildir):
            if _name_of(path) == name:
                return _read(path)
    raise NoSuchMailError


def see_version(maildir: Path) -> str:
    """Return a word that changes whenever a mail is added, removed or replaced."""
    times = [time for time, _ in _list_files(maildir)]
    return f"{len(times)}-{max(times, default=0)}"


def parse_mail(data: bytes, *, name: str, at: datetime) -> ReadMail:
    """Parse the octets of a mail.

    Args:
        data: the mail.
        name: its name in the mailbox.
        at: time of writing.
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
            except FileNotFoundError:  # moved by another program
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
