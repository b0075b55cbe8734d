"""Where mail goes, as one URL, taken apart. It may hold a password, so no message here ever quotes it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, TypeAlias
from urllib.parse import unquote, urlsplit

from regsvc.errors import ConfigurationError

Security: TypeAlias = Literal["none", "starttls", "tls"]

_SCHEMES: Final[dict[str, tuple[Security, int]]] = {
    "smtp": ("none", 25),
    "smtp+starttls": ("starttls", 587),
    "smtps": ("tls", 465),  # RFC 8314, 3.3
}
_HOST: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,252}|[0-9A-Fa-f:.]+")
_FORMS: Final = "smtp://, smtp+starttls:// or smtps:// with a host, or maildir:PATH"
_HINT: Final = "percent-encode any of / ? # @ : % in the user name or password"


@dataclass(frozen=True, slots=True, kw_only=True)
class SmtpServer:
    """A mail server, how the way there is encrypted, and who we are to it. Its repr has no password."""

    host: str
    port: int
    security: Security
    username: str | None = None
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class MaildirFolder:
    """A Maildir on this machine."""

    path: Path


def parse_mail_url(url: str) -> SmtpServer | MaildirFolder:
    """Take a mail URL apart.

    Args:
        url: `smtp://host[:25]`, `smtp+starttls://user:pass@host[:587]` or `smtps://user:pass@host[:465]` with
            user name and password percent-encoded and optional, or `maildir:PATH`.

    Raises:
        ConfigurationError: Saying what is wrong with it without showing any of it.
    """
    scheme, _, rest = url.partition(":")
    if scheme == "maildir":
        if not rest or "\0" in rest:
            raise ConfigurationError("the mail URL names no folder: write maildir:PATH")
        return MaildirFolder(Path(rest))
    if scheme.lower() not in _SCHEMES or not rest.startswith("//"):
        raise ConfigurationError(f"the mail URL must be {_FORMS}")
    if re.search(r"[\x00-\x20\x7f]", url):  # urlsplit drops some of these without a word
        raise ConfigurationError(f"the mail URL has a space or control character in it; {_HINT}")
    security, default_port = _SCHEMES[scheme.lower()]
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", default_port if parts.port is None else parts.port
        username = unquote(parts.username or "", errors="strict")
        password = unquote(parts.password or "", errors="strict")
    except ValueError:  # its message quotes what it could not read
        raise ConfigurationError(f"the mail URL cannot be read; {_HINT}") from None
    if parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise ConfigurationError(f"the mail URL has something after its host; {_HINT}")
    if not _HOST.fullmatch(host) or port == 0:
        raise ConfigurationError(f"the mail URL has no usable host or port; {_HINT}")
    _check_credentials(username, password)
    return SmtpServer(
        host=host, port=port, security=security, username=username or None, password=password or None
    )


def _check_credentials(username: str, password: str) -> None:
    if bool(username) != bool(password):
        raise ConfigurationError("the mail URL has a user name or a password but not both")
    if re.search(r"[\x00\r\n]", username + password):  # NUL separates the two in AUTH PLAIN (RFC 4616, 2)
        raise ConfigurationError("the mail URL has a control character in its user name or password")
