"""What an otherwise valid configuration should not be exposed to the world with.

`serve` refuses to start with any of these unless `REGSVC_ALLOW_INSECURE=on`, and then says them loudly.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from psycopg.conninfo import conninfo_to_dict

from regsvc.config.broker_url import read_broker_urls
from regsvc.config.mail_url import SmtpServer, read_mail_url
from regsvc.config.notations import is_loopback

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

LAPTOP_SECRET_KEY = "insecure-laptop-key-that-everybody-knows"  # noqa: S105 - public on purpose: .env.example has it
KEY_BYTES = 32

_EXAMPLE_WORDS = (
    "changeme",
    "change-me",
    "change_me",
    "secret",
    "password",
    "example",
    "insecure",
    "default",
)
KNOWN_PASSWORDS = frozenset(
    {"password", "admin", "postgres", "guest", "secret", "changeme", "regsvc", "root"}
)
_FEWEST_CHARACTERS = 8


def find_insecurities(
    *,
    keys: Mapping[str, str],
    database_url: str,
    broker_urls: Mapping[str, str],
    smtp_url: str,
    public_url: str,
) -> Iterator[str]:
    """Yields one line for each, naming the setting and what is wrong, never its value.

    What is empty is not set. Keys and the URLs of brokers come by the names of their settings.
    """
    for name, key in keys.items():
        if key and (weakness := _key_weakness(key)):
            yield f"{name} {weakness}"
    if database_url and _has_known_password(database_url):
        yield "REGSVC_DATABASE_URL has a password that everybody knows"
    for name, url in broker_urls.items():
        if url:
            yield from (f"{name} {weakness}" for weakness in _broker_weaknesses(url))
    mail = read_mail_url(smtp_url) if smtp_url else None
    if (
        isinstance(mail, SmtpServer)
        and mail.security == "none"
        and mail.username
        and not is_loopback(mail.host)
    ):
        yield "REGSVC_SMTP_URL sends its password in clear; use smtp+starttls:// or smtps://"
    public = urlsplit(public_url)
    if public.scheme == "http" and not is_loopback(public.hostname or ""):
        yield "REGSVC_PUBLIC_URL is http: whoever is on the way reads links and passwords; use https"


def _key_weakness(key: str) -> str | None:
    """Finds keys that nobody drew at random; it cannot tell a good one."""
    if key == LAPTOP_SECRET_KEY:
        return "is the example's"
    if len(key.encode()) < KEY_BYTES:
        return f"is shorter than {KEY_BYTES} bytes"
    if any(word in key.casefold() for word in _EXAMPLE_WORDS):
        return "holds a word out of an example"
    # A random key of 32 hexadecimal digits has fewer than 8 different ones about once in ten million.
    repeats = (key + key).find(key, 1) <= len(key) // 2
    ascending = sum(ord(b) - ord(a) == 1 for a, b in pairwise(key))
    if len(set(key)) < _FEWEST_CHARACTERS or repeats or ascending > len(key) // 2:
        return "is no random text"
    return None


def _has_known_password(database_url: str) -> bool:
    conninfo = conninfo_to_dict(database_url)
    hosts = str(conninfo.get("hostaddr") or conninfo.get("host") or "localhost").split(",")
    password = conninfo.get("password")
    known = password in KNOWN_PASSWORDS or (password is not None and password == conninfo.get("user"))
    return known and not all(is_loopback(host or "localhost") for host in hosts)


def _broker_weaknesses(text: str) -> Iterator[str]:
    servers = read_broker_urls(text)
    if any(
        server.username == server.password == "guest" and not is_loopback(server.host) for server in servers
    ):
        yield "logs in as guest with guest's password off this machine"
    if not all(server.verify for server in servers):
        yield "has no_verify_ssl: anybody can pose as the broker"
