"""Parse the mail URLs. They may contain a password, so no message here quotes them."""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, TypeAlias
from urllib.parse import unquote

from regsvc.config.notations import check_host, read_options, split_url
from regsvc.config.provider_url import PROVIDERS, MailProvider, is_provider_url, read_provider_url
from regsvc.errors import ConfigurationError

Security: TypeAlias = Literal["none", "starttls", "tls"]

_SCHEMES: Final[dict[str, tuple[Security, int]]] = {
    "smtp": ("none", 25),
    "smtp+starttls": ("starttls", 587),
    "smtps": ("tls", 465),  # RFC 8314, 3.3
}
_OPTIONS: Final = ("ehlo", "cafile", "auth")
# A domain or an address literal (RFC 5321, 4.1.1.1). Some servers take names with an underscore.
_EHLO: Final = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,252}[A-Za-z0-9])?|\[[!-Z^-~]{1,253}\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class SmtpServer:
    """A mail server, the encryption of the connection, and our credentials. Its repr has no password.

    Args:
        host: name or IP address.
        port: TCP port.
        security: `none`, `starttls`, or `tls` from the first octet on.
        username: for AUTH; None for no login.
        password: for AUTH.
        ehlo: the name in EHLO; None lets the transport choose.
        cafile: trusted authorities, a file of PEM; None takes the system's.
        oauth: log in with the user name and an access token (XOAUTH2).
    """

    host: str
    port: int
    security: Security
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ehlo: str | None = None
    cafile: str | None = None
    oauth: bool = False


@dataclass(frozen=True, slots=True)
class MaildirFolder:
    """A Maildir on this machine."""

    path: Path


Place: TypeAlias = SmtpServer | MaildirFolder | MailProvider
"""Where a route leads."""


@dataclass(frozen=True, slots=True)
class Route:
    """A way out for mail.

    Args:
        name: unique, without any secret: a provider's name, a host, or `maildir`.
        place: where it leads.
    """

    name: str
    place: Place


def read_mail_urls(text: str) -> tuple[Route, ...]:
    """Parse one or several mail URLs, separated by white space, in order of preference.

    Raises:
        ValueError: what is wrong, to be appended to the name of the setting.
    """
    texts = (
        [text]
        if text.startswith("maildir:") and len(text.split()) > 1 and not _has_more(text)
        else text.split()
    )
    routes: list[Route] = []
    for each in texts or [text]:
        place = read_mail_url(each)
        match place:
            case MaildirFolder():
                name = "maildir"
            case MailProvider():
                name = place.name
            case _:
                name = place.host
        taken = sum(route.name.partition("#")[0] == name for route in routes)
        routes.append(Route(f"{name}#{taken + 1}" if taken else name, place))
    return tuple(routes)


def _has_more(text: str) -> bool:
    """Return whether a URL follows the first one: a folder's name may have spaces."""
    return any(re.match(r"[a-z+]+:", word) for word in text.split()[1:])


def parse_mail_urls(text: str) -> tuple[Route, ...]:
    """Parse as `read_mail_urls`.

    Raises:
        ConfigurationError: what is wrong with the URLs, without any part of them.
    """
    try:
        return read_mail_urls(text)
    except ValueError as error:
        raise ConfigurationError(f"the mail URL {error}") from None


def parse_mail_url(url: str) -> Place:
    """Parse a mail URL.

    Args:
        url: `smtp://host[:25]`, `smtp+starttls://user:pass@host[:587]` or `smtps://user:pass@host[:465]` with
            optional, percent-encoded user name and password, and optional `?ehlo=NAME`, `?cafile=PATH` and
            `?auth=xoauth2`; `maildir:PATH`; or a provider's URL (`read_provider_url`).

    Raises:
        ConfigurationError: what is wrong with the URL, without any part of it.
    """
    try:
        return read_mail_url(url)
    except ValueError as error:
        raise ConfigurationError(f"the mail URL {error}") from None


def read_mail_url(text: str) -> Place:
    """Parse a mail URL, as `parse_mail_url`.

    Raises:
        ValueError: what is wrong, to be appended to the name of the setting.
    """
    if text.partition(":")[0] == "maildir":
        path = text.partition(":")[2]
        if not path or "\0" in path:
            raise ValueError("names no folder after maildir:")
        return MaildirFolder(Path(path))
    if is_provider_url(text):
        return read_provider_url(text)
    url = split_url(text, (*_SCHEMES, "maildir", *PROVIDERS))
    security, port = _SCHEMES[url.scheme]
    if url.path not in {"", "/"}:
        raise ValueError("has something after its host; in a password write / as %2F, ? as %3F")
    options = read_options(url.query, _OPTIONS)
    username, password = (decode_credential(part) for part in (url.username, url.password))
    oauth = options.get("auth") == "xoauth2"
    if "auth" in options and not oauth:
        raise ValueError("has an unknown auth; known is xoauth2")
    if oauth and (not username or password or security == "none"):
        raise ValueError(
            "has auth=xoauth2, which needs a user without a password, and smtp+starttls: or smtps:"
        )
    if bool(username) != bool(password) and not oauth:
        raise ValueError("has a user without a password, or a password without a user")
    ehlo = options.get("ehlo")
    if ehlo is not None and not _EHLO.fullmatch(ehlo):
        raise ValueError("has an invalid ehlo: use a host name or an address in brackets")
    if "cafile" in options and security == "none":
        raise ValueError("has a cafile but begins with smtp:; use smtp+starttls: or smtps:")
    return SmtpServer(
        host=check_host(url.hostname or ""),
        port=port if url.port is None else url.port,
        security=security,
        username=username or None,
        password=password or None,
        ehlo=ehlo,
        cafile=options.get("cafile"),
        oauth=oauth,
    )


def load_authorities(path: str) -> ssl.SSLContext:
    """Return a context that trusts the authorities of a file alone. Blocks.

    Raises:
        ValueError: the file cannot be used; with its name, to be appended to the name of the setting.
    """
    try:
        return ssl.create_default_context(cafile=path)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise ValueError(f"has a cafile {path} that cannot be used: {reason}") from error


def decode_credential(part: str | None) -> str:
    """Return a user name or password of a URL, percent-decoded.

    Raises:
        ValueError: it is not valid.
    """
    try:
        text = unquote(part or "", errors="strict")
    except UnicodeDecodeError:
        raise ValueError("has a user or password that is not valid UTF-8 after decoding") from None
    if re.search(r"[\x00\r\n]", text):  # NUL separates the two in AUTH PLAIN (RFC 4616, 2)
        raise ValueError("has a control character in its user or password")
    return text
