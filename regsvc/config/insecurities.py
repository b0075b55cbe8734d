"""Weaknesses of an otherwise valid configuration that must not be exposed to the internet.

`serve` refuses to start with any of them unless `REGSVC_ALLOW_INSECURE` names it, and then logs each as a warning.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import Conninfo

from regsvc.config.broker_url import read_broker_urls
from regsvc.config.mail_url import SmtpServer, read_mail_urls
from regsvc.config.notations import is_loopback
from regsvc.config.provider_url import MailProvider

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from ipaddress import IPv4Network, IPv6Network

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
_WIDEST = {4: 8, 6: 7}  # prefix lengths of 10.0.0.0/8 and fc00::/7


class Topic(StrEnum):
    """Kinds of weaknesses, by their words in `REGSVC_ALLOW_INSECURE`."""

    KEYS = "keys"
    DATABASE = "database"
    RABBITMQ = "rabbitmq"
    SMTP = "smtp"
    PUBLIC_URL = "public_url"
    NETWORKS = "networks"
    RATE_LIMITS = "rate_limits"


@dataclass(frozen=True, slots=True)
class Insecurity:
    """One weakness that must not be exposed to the internet.

    Args:
        topic: the word by which an operator may allow it.
        line: the setting and what is wrong with it, never its value.
    """

    topic: Topic
    line: str


def find_insecurities(
    *,
    keys: Mapping[str, str],
    database_urls: Mapping[str, str],
    broker_urls: Mapping[str, str],
    mail_urls: Mapping[str, str],
    public_url: str,
    networks: Mapping[str, Sequence[IPv4Network | IPv6Network]],
    rate_limits: bool,
) -> Iterator[Insecurity]:
    """Yield all weaknesses.

    One rule holds for every dependency: traffic to another machine is encrypted. Loopback and Unix sockets stay on this
    machine. Empty values are not set. Keys, URLs and networks are passed by setting name.
    """
    looks = [
        *((Topic.KEYS, name, key, _key_weaknesses) for name, key in keys.items()),
        *((Topic.DATABASE, name, url, _database_weaknesses) for name, url in database_urls.items()),
        *((Topic.RABBITMQ, name, url, _broker_weaknesses) for name, url in broker_urls.items()),
        *((Topic.SMTP, name, url, _mail_weaknesses) for name, url in mail_urls.items()),
        (Topic.PUBLIC_URL, "REGSVC_PUBLIC_URL", public_url, _public_weaknesses),
    ]
    for topic, name, text, find in looks:
        if text:
            yield from (Insecurity(topic, f"{name} {weakness}") for weakness in find(text))
    yield from (
        Insecurity(Topic.NETWORKS, f"{name} includes {network}, which also contains strangers' machines")
        for name, listed in networks.items()
        for network in listed
        if network.prefixlen < _WIDEST[network.version]
    )
    if not rate_limits:
        yield Insecurity(
            Topic.RATE_LIMITS, "REGSVC_RATE_LIMITS is off: passwords can be guessed at full speed"
        )


def _mail_weaknesses(text: str) -> Iterator[str]:
    for server in (route.place for route in read_mail_urls(text)):
        if isinstance(server, SmtpServer) and server.security == "none" and not is_loopback(server.host):
            sent = "its password" if server.username else "links and codes"
            yield f"sends {sent} unencrypted; use smtp+starttls:// or smtps://"
        if isinstance(server, MailProvider) and server.overridden:
            yield "has a base of its own, which gets the key and every link and code"


def _public_weaknesses(text: str) -> Iterator[str]:
    url = urlsplit(text)
    if url.scheme == "http" and not is_loopback(url.hostname or ""):
        yield (
            "is http: links, passwords and cookies can be read on the way, and cookies cannot be Secure; use https"
        )


def _key_weaknesses(key: str) -> Iterator[str]:
    """Yield weaknesses of a key that was not generated at random. A good key cannot be proved."""
    if key == LAPTOP_SECRET_KEY:
        yield "is the example key"
    elif len(key.encode()) < KEY_BYTES:
        yield f"is shorter than {KEY_BYTES} bytes"
    elif any(word in key.casefold() for word in _EXAMPLE_WORDS):
        yield "contains a word from an example"
    elif _is_regular(key):
        yield "is not random"


def _is_regular(key: str) -> bool:
    # A random key of 32 hexadecimal digits has fewer than 8 different ones about once in ten million.
    repeats = (key + key).find(key, 1) <= len(key) // 2
    ascending = sum(ord(b) - ord(a) == 1 for a, b in pairwise(key))
    return len(set(key)) < _FEWEST_CHARACTERS or repeats or ascending > len(key) // 2


def _database_weaknesses(database_url: str) -> Iterator[str]:
    """Yield weaknesses of a conninfo, read as libpq does, including the environment (`PGHOST`, `PGSSLMODE`)."""
    given = conninfo_to_dict(database_url)
    defaults = {option.keyword.decode(): option.val for option in Conninfo.get_defaults()}

    def get(name: str) -> str:
        value = given.get(name)
        return str(value) if value else (defaults.get(name) or b"").decode()

    # A service of pg_service.conf may name any host.
    unnamed = "service" if get("service") else "localhost"
    hosts = (get("hostaddr") or get("host") or unnamed).split(",")
    if all(is_loopback(host or "localhost") for host in hosts):
        return
    password = given.get("password")
    if password in KNOWN_PASSWORDS or (password is not None and password == get("user")):
        yield "has a well-known password"
    # `prefer`, the default, falls back to clear text when the server refuses TLS.
    if get("sslmode") not in {"require", "verify-ca", "verify-full"} and get("gssencmode") != "require":
        yield "may connect unencrypted; add sslmode=verify-full, or at least sslmode=require"


def _broker_weaknesses(text: str) -> Iterator[str]:
    servers = [server for server in read_broker_urls(text) if not is_loopback(server.host)]
    if any(server.username == server.password == "guest" for server in servers):
        yield "logs in as guest with the default password on another machine"
    if not all(server.encrypted for server in servers):
        yield "sends its password unencrypted; use amqps://"
    if not all(server.verify for server in read_broker_urls(text)):
        yield "has no_verify_ssl: another server can impersonate the broker"
