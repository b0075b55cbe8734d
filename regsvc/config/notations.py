"""How the values of settings are written: mailboxes, networks, origins, URLs, each checked and normalised.

Every function takes the text as given and returns what it stands for, or raises ValueError with a message
that says what is wrong without repeating the text: some of these texts hold passwords.
"""

from __future__ import annotations

import re
from email.headerregistry import Address
from email.utils import unquote as unquote_text
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, unquote, urlsplit

import psycopg
from psycopg.conninfo import conninfo_to_dict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import SecretStr

Networks = tuple[IPv4Network | IPv6Network, ...]

_DEFAULT_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\]")
_ADDRESS = re.compile(
    r"(?=[^@]{1,64}@)(?!.*=\?)[\w!#$%&'*+/=?^`{|}~-]+(\.[\w!#$%&'*+/=?^`{|}~-]+)*"
    r"@[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*",
    re.ASCII | re.IGNORECASE,
)
_SWITCH = {
    "on": True,
    "true": True,
    "yes": True,
    "1": True,
    "off": False,
    "false": False,
    "no": False,
    "0": False,
}
# An encoded word or a line end in a header value lets Python before 3.11.10 write headers of its own.
_HEADER_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]|=\?")


def split_url(text: str, schemes: Sequence[str]) -> SplitResult:
    """Takes a URL apart, with a host that is there and a port that is a number."""
    try:
        url = urlsplit(text)
        # urlsplit drops line ends and tabs without a word.
        usable = url.port != 0 and text.isprintable() and " " not in text
    except ValueError:  # its message may show a piece of the password
        usable = False
    if not usable:
        raise ValueError("is no URL; characters like @ : / ? # in a password are written as %40 %3A …")
    if url.scheme not in schemes:
        raise ValueError(f"has to begin with {' or '.join(f'{scheme}:' for scheme in schemes)}")
    if not url.hostname:
        raise ValueError("names no host")
    if url.fragment:
        raise ValueError("has a # in it; in a password that is written as %23")
    return url


def origin(text: str) -> str:
    """An origin of the web (RFC 6454): scheme, host, and the port unless it is the scheme's own."""
    url = split_url(text, ("http", "https"))
    if url.username is not None or url.query or url.path not in {"", "/"}:
        raise ValueError("may hold a scheme, a host and a port, nothing else")
    host = url.netloc.lower().rpartition(":")[0] if url.port is not None else url.netloc.lower().rstrip(":")
    if not _HOST.fullmatch(host):
        raise ValueError("has a host of other characters than a-z 0-9 . - (write the xn-- form)")
    port = "" if url.port in {None, _DEFAULT_PORTS[url.scheme]} else f":{url.port}"
    return f"{url.scheme}://{host}{port}"


def origins(text: str) -> frozenset[str]:
    """Origins with commas between them."""
    return frozenset(origin(item) for item in _items(text))


def switch(value: object) -> object:
    """`on` or `off`, or another common pair of words for them."""
    if not isinstance(value, str):
        return value
    word = value.strip().lower()
    if word not in _SWITCH:
        raise ValueError("is either on or off")
    return _SWITCH[word]


def networks(text: str) -> Networks:
    """Networks (CIDR) or single addresses with commas between them; `none` for none."""
    if text.strip().lower() == "none":
        return ()
    try:
        return tuple(ip_network(item) for item in _items(text))
    except ValueError:
        raise ValueError(
            "is no list of networks such as 10.0.0.0/8,fd00::/8 (no bits set behind the mask)"
        ) from None


def mailbox(text: str) -> Address:
    """A sender, `address` or `Name <address>`, of an ASCII address and safe in a mail header (RFC 5322)."""
    name, opening, rest = text.strip().rpartition("<")
    if opening and not rest.endswith(">"):
        raise ValueError("is not of the form `Name <address>`")
    address = rest.removesuffix(">") if opening else rest
    # The domain may be one of an inner network, so it need not be known to the world.
    if not _ADDRESS.fullmatch(address) or len(address) > 254:  # noqa: PLR2004 - RFC 5321, 4.5.3.1.3 less the <>
        raise ValueError("holds no plain ASCII address such as no-reply@example.org")
    return Address(display_name=header_text(unquote_text(name.strip())), addr_spec=address)


def header_text(text: str) -> str:
    """Text that may stand in a mail header: no control character, no encoded word, 100 characters at most."""
    if _HEADER_UNSAFE.search(text) or len(text) > 100:  # noqa: PLR2004 - said in the message
        raise ValueError("may not hold control characters or =? and is at most 100 characters long")
    return text


def database_url(secret: SecretStr) -> SecretStr:
    """What libpq connects by: a `postgresql://` URI or `key=value` pairs."""
    try:
        conninfo_to_dict(secret.get_secret_value())
    except psycopg.ProgrammingError:
        # libpq's message quotes what it could not read.
        raise ValueError("is neither a postgresql:// URI nor key=value pairs as libpq takes them") from None
    return secret


def amqp_url(secret: SecretStr) -> SecretStr:
    """`amqp://` or `amqps://user:password@host:port/vhost`."""
    split_url(secret.get_secret_value(), ("amqp", "amqps"))
    return secret


def smtp_url(secret: SecretStr) -> SecretStr:
    """`smtp://`, `smtp+starttls://`, `smtps://` with a host, or `maildir:PATH`."""
    text = secret.get_secret_value()
    if text.startswith("maildir:"):
        if not text.removeprefix("maildir:"):
            raise ValueError("names no folder behind maildir:")
        return secret
    url = split_url(text, ("smtp", "smtp+starttls", "smtps", "maildir"))
    if bool(url.username) != bool(url.password):
        raise ValueError("has a user without a password or the other way round")
    if url.path not in {"", "/"} or url.query:
        raise ValueError("has something behind its host; in a password / is written as %2F, ? as %3F")
    return secret


def passwords(text: str) -> set[str]:
    """The password within a URL or a conninfo, as it is written and as it is meant."""
    try:
        written = urlsplit(text).password or str(conninfo_to_dict(text).get("password") or "")
    except (ValueError, psycopg.ProgrammingError):
        return set()
    return {written, unquote(written)} if written else set()


def is_loopback(host: str) -> bool:
    """Whether packets to this host stay on this machine; so does everything over a Unix socket's path."""
    if host.startswith(("/", "@")) or host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _items(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]
