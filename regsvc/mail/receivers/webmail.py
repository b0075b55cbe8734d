"""Where a person reads the mail of an address in a browser, with a search for ours where the site has one."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import quote


@dataclass(frozen=True)
class Webmail:
    """A mailbox in a browser.

    Args:
        name: of the service, as people know it.
        url: of the mailbox.
    """

    name: str
    url: str


@dataclass(frozen=True)
class _Site:
    name: str
    url: str
    domains: re.Pattern[str]
    exchangers: re.Pattern[str]


def find_webmail(email: str, sender: str, exchanger: str | None = None) -> Webmail | None:
    """Return the mailbox of an address, or None if no site is known.

    Args:
        email: the address.
        sender: our address, to search for.
        exchanger: the preferred host of its domain's mail, if known: most companies have theirs at a large service.
    """
    domain = email.rpartition("@")[2].lower()
    host = (exchanger or "").lower().rstrip(".")
    sites = _load_sites()
    found = next((site for site in sites if site.domains.fullmatch(domain)), None) or next(
        (site for site in sites if host and site.exchangers.fullmatch(host)), None
    )
    if found is None:
        return None
    once = quote(sender, safe="")
    url = found.url.format(email=quote(email, safe="@"), sender=once, twice=quote(once, safe=""))
    return Webmail(found.name, url)


@cache
def _load_sites() -> tuple[_Site, ...]:
    text = Path(__file__).with_name("webmail.toml").read_text("utf-8")
    return tuple(
        _Site(
            site["name"],
            site["url"],
            _compile_domains(site.get("domains", "")),
            re.compile(site.get("exchangers") or r"(?!)"),
        )
        for site in tomllib.loads(text)["webmail"]
    )


def _compile_domains(text: str) -> re.Pattern[str]:
    """Compile an expression, or names separated by spaces."""
    if "(" in text:
        return re.compile(text)
    return re.compile("|".join(map(re.escape, text.split())) or r"(?!)")
