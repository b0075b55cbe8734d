"""Parse the URLs of RabbitMQ. They may contain passwords, so no message here quotes them."""

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
_GUEST: Final = "guest"  # the default user of RabbitMQ's own clients


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerServer:
    """One node of RabbitMQ and our credentials. Its repr has no password.

    Args:
        host: name or IP address.
        port: TCP port.
        encrypted: whether AMQP runs over TLS.
        username: for logging in; empty with `external`.
        password: for logging in.
        vhost: virtual host, decoded.
        external: whether the client certificate authenticates us (SASL EXTERNAL).
        verify: whether to verify the server's certificate and name.
        cafile: PEM file of trusted authorities; None for the system's.
        capath: folder of trusted authorities.
        certfile: client certificate.
        keyfile: its private key.
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
        """Host and port of the server, for display."""
        return f"{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    @classmethod
    def read(cls, text: str) -> Self:
        """Parse one URL.

        Raises:
            ValueError: what is wrong, to be appended to the name of the setting.
        """
        url = split_url(text, tuple(_PORTS))
        options = read_options(url.query, _OPTIONS)
        external = options.get("auth", "plain").lower() == "external"
        if options.get("auth", "plain").lower() not in {"plain", "external"}:
            raise ValueError("has an invalid option auth: use plain or external")
        encrypted = url.scheme == "amqps"
        if not encrypted and options.keys() - {"auth"}:
            raise ValueError("has TLS options but begins with amqp:; use amqps:")
        username, password = _decode(url.username), _decode(url.password)
        if not external:
            username, password = username or _GUEST, password or _GUEST
        vhost = "/" if url.path in {"", "/"} else _decode(url.path.removeprefix("/"))
        if "/" in url.path.removeprefix("/"):
            raise ValueError("has a / in its virtual host; write it as %2F")
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
        """Load the TLS files. Blocks.

        Raises:
            ConfigurationError: a file cannot be read or used; with its name.
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
    """Parse one URL, or several separated by white space: the nodes of one cluster, in order of preference.

    Raises:
        ValueError: what is wrong, to be appended to the name of the setting.
    """
    urls = text.split()
    if re.search(r"[;,]amqps?://", text):
        raise ValueError("contains several URLs; separate them by white space")
    if len(urls) > 1 and not all(url.startswith(("amqp://", "amqps://")) for url in urls):
        # A space in a password would split a URL into invalid parts.
        raise ValueError(
            "is neither a URL nor several separated by white space; write a space in a password as %20"
        )
    servers = tuple(BrokerServer.read(url) for url in urls)
    if not servers:
        raise ValueError("has no host")
    if len({server.vhost for server in servers}) > 1:
        raise ValueError("has several virtual hosts; all URLs must be of one cluster")
    return servers


def parse_broker_urls(text: str) -> tuple[BrokerServer, ...]:
    """Parse one URL or several, as `read_broker_urls`.

    Raises:
        ConfigurationError: what is wrong, without any part of the URLs.
    """
    try:
        return read_broker_urls(text)
    except ValueError as error:
        raise ConfigurationError(f"the URL of RabbitMQ {error}") from None


def check_files(server: BrokerServer) -> None:
    """Check that the TLS files of a URL can be read.

    Raises:
        ValueError: names the option and the path of one that cannot.
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
        raise ValueError(
            "has a user, password or virtual host that is not valid UTF-8 after decoding"
        ) from None
    if not text.isprintable():
        raise ValueError("has a control character in its user, password or virtual host")
    return text
