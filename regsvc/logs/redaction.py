"""The last defence before a log line is written: mask everything that looks like a secret or an address.

Code must not log secrets in the first place (OWASP ASVS 5.0, 16.2.5). This catches what slips through, above all in
exception messages of libraries.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MASK = "***"

_SECRET_KEYS = frozenset(
    {
        "authorization",
        "code",
        "cookie",
        "credentials",
        "handle",
        "passwd",
        "password",
        "pepper",
        "secret",
        "token",
    }
)
_SECRET_ENDINGS = (
    *(f"_{key}" for key in _SECRET_KEYS - {"code"}),
    *("secret_key", "private_key", "api_key"),
)
_LONGEST_TEXT = 65_536
_SHORTEST_SECRET = 8
_SHORTEST_TOKEN = 40
_DEEPEST = 4

# Up to the last @ of the word, since operators forget to escape those in passwords.
_USERINFO = re.compile(r"(?<=://)[^\s\"'<>]{1,1024}@")
_ADDRESS = re.compile(r"([^\s@,;:<>()\[\]]{1,255})(@|%40)([\w-]+(?:\.[\w-]+)*|\[[^\]\s]*\])")
_ASSIGNED = re.compile(
    r"(?i)((?:password|passwd|secret|token|handle|authorization|cookie|secret_key|private_key|[#?&]t)"
    r"[\"']?\s*[:=]\s*)(?:(?:bearer|basic)\s+)?(?:\"[^\"]*\"|'[^']*'|[^\s\"'&,;)}\]]+)"
)
_CODE = re.compile(r"(?i)(\bcode\W{1,5})\d{6}\b")
_TOKENS = re.compile(
    r"(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{40,}={1,2}"  # base64
    r"|(?<![\w-])eyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]*)*"  # JSON Web Token (RFC 7519)
    r"|\$2[abxy]?\$\d\d\$[./A-Za-z0-9]{22,53}"  # bcrypt
    r"|(?<![\w~-])(?=[a-z_~-]{0,255}[A-Z0-9])[\w~-]{40,}"  # base64url or hexadecimal
    r"|(?<![\w.~-])(?=[\w.~-]{0,255}\d)(?=[\w.~-]{0,255}[A-Z])[\w.~-]{40,}",  # the same in parts
    re.ASCII,
)


class Revealed:
    """Text that a log line shows unmasked. Only `regsvc dev` uses it, for the links and codes that it logs."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return f"{type(self).__name__}({MASK})"


def reveal(text: str) -> Revealed:
    """Mark text as intentionally readable in the log. A test checks the callers."""
    return Revealed(text)


def mask_email(address: str) -> str:
    """Return the first character and the domain of an address: `t***@example.com`."""
    local, at, domain = address.rpartition("@")
    return f"{local[:1]}{MASK}@{domain}" if at else MASK


@lru_cache(maxsize=4096)
def client_prefix(address: str) -> str:
    """Return the network of a client's address, too coarse to identify a household: /24 of IPv4, /48 of IPv6."""
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(ip, IPv6Address):
        if ip.ipv4_mapped is None:
            return str(ip_network((ip, 48), strict=False))
        ip = ip.ipv4_mapped
    return str(ip_network((ip, 24), strict=False))


class Redactor:
    """Masks secrets and addresses in events.

    Args:
        secrets: texts masked wherever they appear, such as configured passwords. Those under 8 characters are ignored,
            since they would occur within ordinary words.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets = sorted(
            (text for text in secrets if len(text) >= _SHORTEST_SECRET), key=len, reverse=True
        )

    def event(self, event: Mapping[str, object]) -> dict[str, object]:
        """Return the event's fields with everything sensitive masked, in types that JSON supports."""
        return {key: self._value(key, value, 0) for key, value in event.items()}

    def text(self, text: str) -> str:
        """Return a text with its secrets masked. Of an overlong one, keep the beginning and the end."""
        for secret in self._secrets:
            if secret in text:
                text = text.replace(secret, MASK)
        if len(text) > _LONGEST_TEXT:
            half = _LONGEST_TEXT // 2
            text = f"{text[:half]} … {len(text) - 2 * half} characters … {text[-half:]}"
        return redact_text(text)

    def _value(self, key: str, value: object, depth: int) -> object:
        if isinstance(value, Revealed):
            shown: object = value.text
        elif _is_secret(key):
            shown = MASK
        elif value is None or isinstance(value, (bool, int, float)):
            shown = value
        elif isinstance(value, dict) and depth < _DEEPEST:
            shown = {str(name): self._value(str(name), inner, depth + 1) for name, inner in value.items()}
        elif isinstance(value, (list, tuple, set, frozenset)) and depth < _DEEPEST:
            shown = [self._value(key, inner, depth + 1) for inner in value]
        else:
            shown = self.text(str(value))
        return shown


def redact_text(text: str) -> str:
    """Mask addresses, passwords in URLs, named secrets and everything that looks like a token."""
    if "@" in text or "%40" in text:
        text = _ADDRESS.sub(_masked_address, _USERINFO.sub(f"{MASK}@", text))
    if "=" in text or ":" in text:
        text = _ASSIGNED.sub(rf"\1{MASK}", text)
    if len(text) >= _SHORTEST_TOKEN:
        text = _TOKENS.sub(MASK, text)
    return _CODE.sub(rf"\1{MASK}", text)


def _masked_address(match: re.Match[str]) -> str:
    if match[1] == f"//{MASK}":  # part of a URL, already masked
        return match[0]
    # A local part may contain these too (RFC 5322, atext), but usually they precede the address.
    begin = max(match[1].rfind(mark) for mark in "=?&/{}|'`\"") + 1
    around, local = match[1][:begin], match[1][begin:]
    return f"{around}{local[:1]}{MASK}{match[2]}{match[3]}"


@lru_cache(maxsize=1024)
def _is_secret(key: str) -> bool:
    name = key.lower().replace("-", "_")
    return name in _SECRET_KEYS or name.endswith(_SECRET_ENDINGS)
