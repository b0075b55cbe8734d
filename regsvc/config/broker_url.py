"""RabbitMQ as one or several URLs, taken apart once. They may hold passwords, so no message here ever quotes them."""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self
from urllib.parse import unquote

from regsvc.config.notations import check_host, read_options, split_url
from regsvc.errors import ConfigurationError

_PORTS: Final = {"amqp": 5672, "amqps": 5671}
_OPTIONS: Final = ("auth", "cafile", "capath", "certfile", "keyfile", "no_verify_ssl")
_FILES: Final = ("cafile", "capath", "certfile", "keyfile")
_GUEST: Final = "guest"  # what RabbitMQ's own clients take for a URL without a user


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerServer:
    """One node of RabbitMQ, and who we are to it. Its repr has no password.

    Args:
        host: Name or IP address.
        port: TCP port.
        encrypted: AMQP over TLS.
        username: To log in as; empty with `external`.
        password: To log in with.
        vhost: Virtual host, decoded.
        external: The client's certificate says who we are (SASL EXTERNAL).
        verify: Check the certificate and name of the server.
        cafile: Trusted authorities, a file of PEM; None takes the system's.
        capath: The same, a folder.
        certfile: Our certificate.
        keyfile: Its key.
    """

    host: str
    port: int
    encrypted: bool
    username: str
    password: str = field(repr=False)
    vhost: str
    external: bool = False
    verify: bool = True
    cafile: str | None = None
    capath: str | None = None
    certfile: str | None = None
    keyfile: str | None = None

    @property
    def shown(self) -> str:
        """The server as it may be shown: host and port alone."""
        return f"{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    @classmethod
    def read(cls, text: str) -> Self:
        """Take one URL apart.

        Raises:
            ValueError: What is wrong, to be read behind the name of the setting.
        """
        url = split_url(text, tuple(_PORTS))
        options = read_options(url.query, _OPTIONS)
        external = options.get("auth", "plain").lower() == "external"
        if options.get("auth", "plain").lower() not in {"plain", "external"}:
            raise ValueError("has an option auth that is neither plain nor external")
        encrypted = url.scheme == "amqps"
        if not encrypted and options.keys() - {"auth"}:
            raise ValueError("has options of TLS and begins with amqp:; write amqps:")
        username, password = _decode(url.username), _decode(url.password)
        if not external:
            username, password = username or _GUEST, password or _GUEST
        vhost = "/" if url.path in {"", "/"} else _decode(url.path.removeprefix("/"))
        if "/" in url.path.removeprefix("/"):
            raise ValueError("has a / in its virtual host; it is written as %2F")
        return cls(
            host=check_host(url.hostname or ""),
            port=url.port or _PORTS[url.scheme],
            encrypted=encrypted,
            username=username,
            password=password,
            vhost=vhost,
            external=external,
            verify=options.get("no_verify_ssl", "0") == "0",
            **{name: options[name] for name in _FILES if name in options},
        )

    def make_tls(self) -> ssl.SSLContext:
        """Load the files of TLS. Blocks.

        Raises:
            ConfigurationError: A file cannot be read or used, with its name.
        """
        try:
            context = ssl.create_default_context()
            for option in ("cafile", "capath"):
                if path := getattr(self, option):
                    _check_path(option, path)
            if self.cafile or self.capath:
                context = ssl.create_default_context(cafile=self.cafile, capath=self.capath)
        except (OSError, ssl.SSLError) as error:
            raise ConfigurationError(f"cafile {self.cafile} cannot be used: {_reason(error)}") from error
        if self.certfile:
            for option in ("certfile", "keyfile"):
                if path := getattr(self, option):
                    _check_path(option, path)
            try:
                context.load_cert_chain(self.certfile, self.keyfile)
            except (OSError, ssl.SSLError) as error:
                raise ConfigurationError(
                    f"certfile {self.certfile} cannot be used: {_reason(error)}"
                ) from error
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


def read_broker_urls(text: str) -> tuple[BrokerServer, ...]:
    """Take apart one URL, or several with white space between: the nodes of one cluster, in order of preference.

    Raises:
        ValueError: What is wrong, to be read behind the name of the setting.
    """
    urls = text.split()
    if re.search(r"[;,]amqps?://", text):
        raise ValueError("names several URLs; they have white space between them")
    if len(urls) > 1 and not all(url.startswith(("amqp://", "amqps://")) for url in urls):
        # A space in a password would make pieces that are no URLs.
        raise ValueError(
            "is no URL, nor several with white space between; a space in a password is written as %20"
        )
    servers = tuple(BrokerServer.read(url) for url in urls)
    if not servers:
        raise ValueError("names no host")
    if len({server.vhost for server in servers}) > 1:
        raise ValueError("names several virtual hosts; all URLs are of one cluster")
    return servers


def parse_broker_urls(text: str) -> tuple[BrokerServer, ...]:
    """Take apart one URL or several, as `read_broker_urls`.

    Raises:
        ConfigurationError: What is wrong, without any part of the URLs.
    """
    try:
        return read_broker_urls(text)
    except ValueError as error:
        raise ConfigurationError(f"the URL of RabbitMQ {error}") from None


def check_files(server: BrokerServer) -> None:
    """Look whether the files of TLS that a URL names can be read.

    Raises:
        ValueError: The option and the path of one that cannot.
    """
    for option in _FILES:
        if path := getattr(server, option):
            try:
                _check_path(option, path)
            except ConfigurationError as error:
                raise ValueError(f"has an option {error}") from None


def _check_path(option: str, path: str) -> None:
    try:
        if option == "capath":
            next(Path(path).iterdir(), None)
        else:
            with Path(path).open("rb"):
                pass
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{option} {path} that cannot be read: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)


def _decode(part: str | None) -> str:
    try:
        text = unquote(part or "", errors="strict")
    except UnicodeDecodeError:
        raise ValueError("has a user, password or virtual host that is not UTF-8 once decoded") from None
    if not text.isprintable():
        raise ValueError("has a control character in its user, password or virtual host")
    return text
