"""How the values of settings are written: mailboxes, networks, origins, URLs, each checked and normalised.

Every function takes the text as given and returns what it stands for, or raises ValueError with a message
that says what is wrong without repeating the text: some of these texts hold passwords.
"""

from __future__ import annotations

import re
from contextlib import suppress
from email.headerregistry import Address
from email.utils import unquote as unquote_text
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import idna
import psycopg
from psycopg.conninfo import conninfo_to_dict

if TYPE_CHECKING:
    from collections.abc import Sequence

Networks = tuple[IPv4Network | IPv6Network, ...]

_DEFAULT_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\]")
_ASCII_HOST = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]{0,62})(\.[a-z0-9_][a-z0-9_-]{0,62})*\.?", re.IGNORECASE
)
_OPTION_NAME = re.compile("[a-z][a-z_]{1,20}")
_ADDRESS = re.compile(
    r"(?=[^@]{1,64}@)(?!.*=\?)[\w!#$%&'*+/=?^`{|}~-]+(\.[\w!#$%&'*+/=?^`{|}~-]+)*"
    r"@[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*",
    re.ASCII | re.IGNORECASE,
)
_APP_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://[a-z0-9._-]+(?::[0-9]{1,5})?")
_NO_APPS = frozenset({"http", "https", "ws", "wss", "ftp", "file", "data", "blob", "javascript", "about"})
_NAME = re.compile(r"[a-z0-9._-]{1,253}")
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


def check_host(host: str) -> str:
    """Return a host name or IP address as it is.

    Raises:
        ValueError: It is neither. Names of other scripts are written as A-labels (RFC 5890).
    """
    if not _ASCII_HOST.fullmatch(host):
        try:
            ip_address(host.partition("%")[0])
        except ValueError:
            raise ValueError(
                "has a host of other characters than a-z 0-9 . - _ (write the xn-- form);"
                " @ : / ? # ; in a password are written as %40 %3A %2F %3F %23 %3B"
            ) from None
    return host


def read_options(query: str, known: Sequence[str]) -> dict[str, str]:
    """Return what stands behind the `?` of a URL, by name.

    Args:
        query: Without its `?`.
        known: Every option there is.

    Raises:
        ValueError: An option is unknown, said with its name, or given twice.
    """
    options: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True, errors="strict"):
        if name not in known:
            # With an @ behind it, this is a password with a ? in it.
            shown = f" {name}" if _OPTION_NAME.fullmatch(name) and "@" not in query else ""
            raise ValueError(f"has an unknown option{shown}; known are {', '.join(known)}")
        if name in options:
            raise ValueError(f"has the option {name} twice")
        options[name] = value
    return options


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
    """Read origins with commas between them, those of apps in a web view (`capacitor://localhost`) included."""
    return frozenset(_app_origin(item) or origin(item) for item in _items(text))


def _app_origin(text: str) -> str | None:
    """Return an origin of an app's own scheme as browsers write it, or None if it is of the web."""
    found = _APP_ORIGIN.fullmatch(text.lower().removesuffix("/"))
    return None if found is None or found[1] in _NO_APPS else found[0]


def hosts(text: object) -> object:
    """Read what to listen on: addresses and names with commas between, `*`, `unix:/path`."""
    if not isinstance(text, str):
        return text
    found = [item if item.startswith("unix:") else item.strip("[]").lower() for item in _items(text)]
    for host in found:
        if host.startswith("unix:"):
            if not host.startswith("unix:/"):
                raise ValueError(
                    "has a Unix socket without an absolute path, such as unix:/run/regsvc/http.sock"
                )
        elif host != "*" and not _is_host(host):
            raise ValueError(
                "is no list of addresses or names such as 127.0.0.1,::1 (the port is REGSVC_HTTP_PORT)"
            )
    if not found:
        raise ValueError("names nothing to listen on")
    return tuple(dict.fromkeys(found))


def _is_host(text: str) -> bool:
    if ":" not in text:
        return _NAME.fullmatch(text) is not None
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def choices(known: Sequence[str], text: object) -> object:
    """Read some of the known words with commas between them, `on` for all of them or `off` for none."""
    if not isinstance(text, str):
        return text
    words = [item.lower() for item in _items(text)]
    if len(words) == 1 and words[0] in _SWITCH:
        return frozenset(known) if _SWITCH[words[0]] else frozenset()
    if unknown := [word for word in words if word not in known]:
        raise ValueError(
            f"is on, off, or some of {', '.join(known)}; {len(unknown)} of its words are none of these"
        )
    return frozenset(words)


def domains(text: str) -> frozenset[str]:
    """Domains with commas between them, as A-labels (RFC 5890); `*.` before one means those below it."""
    found = set()
    for item in _items(text):
        star = "*." if item.startswith("*.") else ""
        try:
            found.add(star + idna.encode(item[len(star) :], uts46=True, std3_rules=True).decode("ascii"))
        except UnicodeError:
            raise ValueError("is no list of domains such as corp.local,*.corp.local") from None
    return frozenset(found)


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


def passwords(text: str) -> set[str]:
    """Return the passwords within URLs or a conninfo, as they are written and as they are meant."""
    found: set[str] = set()
    for part in text.split():
        try:
            found.add(urlsplit(part).password or "")
        except ValueError:
            continue
    with suppress(psycopg.ProgrammingError):
        found.add(str(conninfo_to_dict(text).get("password") or ""))
    return {form for written in found - {""} for form in (written, unquote(written))}


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
