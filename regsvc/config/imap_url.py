"""Parse the URL of the bounce mailbox. It may contain a password, so no message here quotes it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote

from pydantic import SecretStr

from regsvc.config.mail_url import decode_credential, load_authorities
from regsvc.config.notations import check_host, read_options, split_url

_PORT: Final = 993  # RFC 8314, 3.2
_OPTIONS: Final = ("cafile", "auth")
_FOLDER: Final = re.compile(r"[ -~]{1,255}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImapMailbox:
    """A folder on an IMAP server, and our credentials. Its repr has no password.

    Args:
        host: name or IP address.
        port: TCP port.
        username: to log in.
        password: to log in; None with `oauth`.
        folder: name of the folder, as the server writes it.
        cafile: trusted authorities, a file of PEM; None takes the system's.
        oauth: log in with an access token (XOAUTH2).
    """

    host: str
    port: int
    username: str
    password: str | None = field(default=None, repr=False)
    folder: str = "INBOX"
    cafile: str | None = None
    oauth: bool = False

    @property
    def name(self) -> str:
        """Return the name of the mailbox, without any secret."""
        return f"{self.username}@{self.host}/{self.folder}"


def read_imap_url(text: str) -> ImapMailbox:
    """Parse `imaps://user:password@host[:993][/FOLDER]` with `?cafile=PATH` and `?auth=xoauth2`.

    Raises:
        ValueError: what is wrong, to be appended to the name of the setting.
    """
    url = split_url(text, ("imaps",))
    options = read_options(url.query, _OPTIONS)
    username, password = (decode_credential(part) for part in (url.username, url.password))
    oauth = options.get("auth") == "xoauth2"
    if "auth" in options and not oauth:
        raise ValueError("has an unknown auth; known is xoauth2")
    if not username or bool(password) == oauth:
        raise ValueError("needs a user and a password, or with auth=xoauth2 a user alone")
    folder = unquote(url.path.removeprefix("/")) or "INBOX"
    if not _FOLDER.fullmatch(folder):
        raise ValueError("has a folder with characters other than ASCII; write its name as the server does")
    return ImapMailbox(
        host=check_host(url.hostname or ""),
        port=_PORT if url.port is None else url.port,
        username=username,
        password=password or None,
        folder=folder,
        cafile=options.get("cafile"),
        oauth=oauth,
    )


def imap_url(secret: SecretStr) -> SecretStr:
    """Validate the URL of the bounce mailbox."""
    place = read_imap_url(secret.get_secret_value())
    if place.cafile is not None:
        load_authorities(place.cafile)
    return secret
