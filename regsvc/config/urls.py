"""Validate the URLs of the program's dependencies, each with the parser that its client uses.

Every function returns the secret as given, or raises ValueError with a message that repeats none of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
from psycopg.conninfo import conninfo_to_dict

from regsvc.config.broker_url import check_files, read_broker_urls
from regsvc.config.mail_url import SmtpServer, load_authorities, read_mail_urls
from regsvc.config.notations import check_host

if TYPE_CHECKING:
    from pydantic import SecretStr


def database_url(secret: SecretStr) -> SecretStr:
    """Validate a libpq connection string: a `postgresql://` URI or `key=value` pairs."""
    try:
        conninfo = conninfo_to_dict(secret.get_secret_value())
    except psycopg.ProgrammingError:
        # libpq's message quotes the text.
        raise ValueError("is neither a postgresql:// URI nor libpq's key=value pairs") from None
    for host in str(conninfo.get("host") or "").split(","):
        if host and not host.startswith(("/", "@")):  # of a Unix socket
            check_host(host)
    return secret


def broker_urls(secret: SecretStr) -> SecretStr:
    """Validate `amqp://` or `amqps://user:password@host:port/vhost`, one or several separated by white space."""
    for server in read_broker_urls(secret.get_secret_value()):
        check_files(server)
    return secret


def mail_urls(secret: SecretStr) -> SecretStr:
    """Validate the URLs of the ways out for mail (`regsvc.config.mail_url`), separated by white space."""
    for route in read_mail_urls(secret.get_secret_value()):
        if isinstance(route.place, SmtpServer) and route.place.cafile is not None:
            load_authorities(route.place.cafile)
    return secret
