"""Notations of settings' values: mailboxes, networks, origins, URLs, each validated and normalised.

Every function takes the text as given and returns its value, or raises ValueError with a message that says what is
wrong without repeating the text, because some of these texts contain passwords.
"""

from __future__ import annotations

import re
from contextlib import suppress
from email.headerregistry import Address
from email.utils import unquote as unquote_text
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import psycopg
from psycopg.conninfo import conninfo_to_dict

from regsvc.config.signup.domain_names import encode_pattern

if TYPE_CHECKING:
    from collections.abc import Sequence

Networks = tuple[IPv4Network | IPv6Network, ...]

_DEFAULT_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\]")
_ASCII_HOST = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]{0,62})(\.[a-z0-9_][a-z0-9_-]{0,62})*\.?", re.IGNORECASE
)
# An address with a port: one of IPv6 has brackets then.
_PORTED = re.compile(r"[0-9.]+:[0-9]{1,5}|\[[0-9a-fA-F:.]+\]:[0-9]{1,5}")
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
    """Parse a URL, which must have a host and a valid port."""
    try:
        url = urlsplit(text)
        # urlsplit silently drops line ends and tabs.
        usable = url.port != 0 and text.isprintable() and " " not in text
    except ValueError:  # its message may quote part of the password
        usable = False
    if not usable:
        raise ValueError("is not a URL; in a password write characters like @ : / ? # as %40 %3A …")
    if url.scheme not in schemes:
        raise ValueError(f"must begin with {' or '.join(f'{scheme}:' for scheme in schemes)}")
    if not url.hostname:
        raise ValueError("has no host")
    if url.fragment:
        raise ValueError("contains a #; in a password write it as %23")
    return url


def check_host(host: str) -> str:
    """Return a host name or IP address unchanged.

    Raises:
        ValueError: it is neither. Names in other scripts must be written as A-labels (RFC 5890).
    """
    if not _ASCII_HOST.fullmatch(host):
        try:
            ip_address(host.partition("%")[0])
        except ValueError:
            raise ValueError(
                "has a host with characters other than a-z 0-9 . - _ (use the xn-- form);"
                " in a password write @ : / ? # ; as %40 %3A %2F %3F %23 %3B"
            ) from None
    return host


def read_options(query: str, known: Sequence[str]) -> dict[str, str]:
    """Return the query options of a URL, by name.

    Args:
        query: the query without its `?`.
        known: all valid options.

    Raises:
        ValueError: an option is unknown (with its name) or repeated.
    """
    options: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True, errors="strict"):
        if name not in known:
            # If an @ follows, this is part of a password that contains a ?.
            shown = f" {name}" if _OPTION_NAME.fullmatch(name) and "@" not in query else ""
            raise ValueError(f"has an unknown option{shown}; known are {', '.join(known)}")
        if name in options:
            raise ValueError(f"has the option {name} twice")
        options[name] = value
    return options


def origin(text: str) -> str:
    """Return an origin (RFC 6454): scheme, host, and the port unless it is the scheme's default."""
    url = split_url(text, ("http", "https"))
    if url.username is not None or url.query or url.path not in {"", "/"}:
        raise ValueError("may only contain a scheme, a host and a port")
    host = url.netloc.lower().rpartition(":")[0] if url.port is not None else url.netloc.lower().rstrip(":")
    if not _HOST.fullmatch(host):
        raise ValueError("has a host with characters other than a-z 0-9 . - (use the xn-- form)")
    port = "" if url.port in {None, _DEFAULT_PORTS[url.scheme]} else f":{url.port}"
    return f"{url.scheme}://{host}{port}"


def origins(text: str) -> frozenset[str]:
    """Parse origins separated by commas, including those of apps in a web view (`capacitor://localhost`)."""
    return frozenset(_app_origin(item) or origin(item) for item in _items(text))


def _app_origin(text: str) -> str | None:
    """Return the origin of an app's own scheme as browsers send it, or None for a web origin."""
    found = _APP_ORIGIN.fullmatch(text.lower().removesuffix("/"))
    return None if found is None or found[1] in _NO_APPS else found[0]


def hosts(text: object) -> object:
    """Parse listening addresses separated by commas: addresses, names, `*`, `unix:/path`."""
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
                "is not a list of addresses or names such as 127.0.0.1,::1 (the port is REGSVC_HTTP_PORT)"
            )
    if not found:
        raise ValueError("contains no address to listen on")
    return tuple(dict.fromkeys(found))


def _is_host(text: str) -> bool:
    if ":" not in text:
        return _NAME.fullmatch(text) is not None
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def dns_servers(text: object) -> object:
    """Parse addresses of DNS servers separated by white space: `192.0.2.53`, or with a port, `[::1]:5353`."""
    if not isinstance(text, str):
        return text
    found = []
    for item in text.split():
        host, _, port = item.rpartition(":") if _PORTED.fullmatch(item) else (item, ":", "53")
        try:
            address = str(ip_address(host.strip("[]")))
        except ValueError:
            raise ValueError("is not a list of addresses such as 192.0.2.53 or [2001:db8::53]:5353") from None
        if not 0 < int(port) <= 65_535:  # noqa: PLR2004 - the ports there are
            raise ValueError("contains a port that does not exist")
        found.append((address, int(port)))
    return tuple(found)


def choices(known: Sequence[str], text: object) -> object:
    """Parse some of the known words separated by commas, or `on` for all and `off` for none."""
    if not isinstance(text, str):
        return text
    words = [item.lower() for item in _items(text)]
    if len(words) == 1 and words[0] in _SWITCH:
        return frozenset(known) if _SWITCH[words[0]] else frozenset()
    if unknown := [word for word in words if word not in known]:
        raise ValueError(
            f"must be on, off, or some of {', '.join(known)}; {len(unknown)} of its words are unknown"
        )
    return frozenset(words)


def domains(text: str) -> frozenset[str]:
    """Parse domains separated by commas into A-labels (RFC 5890); `*.` stands for all subdomains."""
    try:
        return frozenset(map(encode_pattern, _items(text)))
    except ValueError:
        raise ValueError("is not a list of domains such as corp.local,*.corp.local") from None


def switch(value: object) -> object:
    """Parse `on` or `off`, or another common pair of words for them."""
    if not isinstance(value, str):
        return value
    word = value.strip().lower()
    if word not in _SWITCH:
        raise ValueError("must be on or off")
    return _SWITCH[word]


def networks(text: str) -> Networks:
    """Parse networks (CIDR) or single addresses separated by commas; `none` for none."""
    if text.strip().lower() == "none":
        return ()
    try:
        return tuple(ip_network(item) for item in _items(text))
    except ValueError:
        raise ValueError(
            "is not a list of networks such as 10.0.0.0/8,fd00::/8 (no bits set beyond the prefix)"
        ) from None


def mailbox(text: str) -> Address:
    """Parse a sender, `address` or `Name <address>`, with an ASCII address that is safe in a mail header (RFC 5322)."""
    name, opening, rest = text.strip().rpartition("<")
    if opening and not rest.endswith(">"):
        raise ValueError("must have the form `Name <address>`")
    address = rest.removesuffix(">") if opening else rest
    # The domain may belong to an internal network, so it need not be public.
    if not _ADDRESS.fullmatch(address) or len(address) > 254:  # noqa: PLR2004 - RFC 5321, 4.5.3.1.3 less the <>
        raise ValueError("contains no plain ASCII address such as no-reply@example.org")
    return Address(display_name=header_text(unquote_text(name.strip())), addr_spec=address)


def header_text(text: str) -> str:
    """Validate text for a mail header: no control character, no encoded word, at most 100 characters."""
    if _HEADER_UNSAFE.search(text) or len(text) > 100:  # noqa: PLR2004 - said in the message
        raise ValueError("must not contain control characters or =?, and must be at most 100 characters long")
    return text


# Schemes of mail providers, whose key stands where other URLs have a user.
_KEYED = frozenset({"resend", "postmark", "sendgrid", "mailgun"})


def passwords(text: str) -> set[str]:
    """Return the passwords and keys within URLs or a conninfo, both as written and decoded."""
    found: set[str] = set()
    for part in text.split():
        try:
            url = urlsplit(part)
            found.add(url.password or "")
            if url.scheme in _KEYED:
                found.add(url.username or "")
        except ValueError:
            continue
    with suppress(psycopg.ProgrammingError):
        found.add(str(conninfo_to_dict(text).get("password") or ""))
    return {form for written in found - {""} for form in (written, unquote(written))}


def is_loopback(host: str) -> bool:
    """Return whether packets to this host stay on this machine, as with a Unix socket's path."""
    if host.startswith(("/", "@")) or host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _items(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]
