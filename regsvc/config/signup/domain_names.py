"""Domain names as A-labels, and rules about which domains of addresses are meant."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from string import ascii_lowercase, ascii_uppercase

import idna

_LABEL = r"(?!xn--)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOST = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*")
_LOWER = str.maketrans(ascii_uppercase, ascii_lowercase)
_STAR = "*."
DISPOSABLE = "disposable"


def encode_domain(domain: str) -> str:
    """Return a domain as lower-case A-labels: IDNA 2008, mapped by UTS 46, non-transitional.

    All spellings of a domain give the same result; ß, ς, ZWJ and ZWNJ make different domains (RFC 5892, 2.6 and A).

    Raises:
        ValueError: it is not a domain name.
    """
    lower = domain.translate(_LOWER)
    if _HOST.fullmatch(lower):
        return lower
    encoded = idna.encode(domain, uts46=True, std3_rules=True).decode("ascii")
    if encoded.endswith("."):
        raise ValueError("is not a domain name")
    return encoded


def encode_pattern(text: str) -> str:
    """Return a domain, or `*.` and a domain, as A-labels.

    Raises:
        ValueError: it is neither.
    """
    star = _STAR if text.startswith(_STAR) else ""
    return star + encode_domain(text.removeprefix(_STAR))


@dataclass(frozen=True)
class DomainRules:
    """Domains that a setting names.

    Args:
        names: domains, as A-labels.
        above: domains whose subdomains are meant.
    """

    names: frozenset[str] = frozenset()
    above: frozenset[str] = frozenset()

    def cover(self, domain: str) -> bool:
        """Return whether a domain (A-labels) is one of them."""
        return domain in self.names or any(parent in self.above for parent in _parents(domain))


def read_domain_rules(text: str) -> DomainRules:
    """Parse domains separated by commas: names, `*.` and a name, paths of files, and the word `disposable`.

    A file has a name a line; `#` begins a comment.

    Raises:
        ValueError: an item is none of these, or a file cannot be read.
    """
    patterns: list[str] = []
    disposable: frozenset[str] = frozenset()
    for item in filter(None, (part.strip() for part in text.split(","))):
        if "/" in item:
            patterns += _read_file(Path(item))
        elif item.lower() == DISPOSABLE:
            disposable = _load_disposable()
        else:
            patterns.append(_encode(item, "is not a list of domains such as example.org,*.example.org,/path"))
    if not patterns and not disposable:
        raise ValueError("names no domain")
    stars = {pattern.removeprefix(_STAR) for pattern in patterns if pattern.startswith(_STAR)}
    names = {pattern for pattern in patterns if not pattern.startswith(_STAR)}
    # Many of these services give out addresses at subdomains, too.
    return DomainRules(frozenset(names) | disposable, frozenset(stars) | disposable)


def _parents(domain: str) -> Iterator[str]:
    while "." in domain:
        domain = domain.partition(".")[2]
        yield domain


def _read_file(path: Path) -> list[str]:
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeError) as error:
        raise ValueError("names a file that cannot be read as UTF-8 text") from error
    return list(_read_lines(lines))


def _read_lines(lines: Iterable[str]) -> Iterator[str]:
    for number, line in enumerate(lines, 1):
        if name := line.partition("#")[0].strip():
            yield _encode(name, f"names a file whose line {number} is not a domain")


def _encode(text: str, problem: str) -> str:
    try:
        return encode_pattern(text)
    except ValueError:  # of which UnicodeError is a kind
        raise ValueError(problem) from None


def _load_disposable() -> frozenset[str]:
    try:
        from disposable_email_domains import blocklist  # noqa: PLC0415 - an extra that few need
    except ImportError:
        raise ValueError("needs the extra: pip install 'regsvc[disposable]'") from None
    return frozenset(blocklist)
