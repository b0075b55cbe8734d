"""Which addresses a conninfo stands for, resolved without blocking Trio."""

from __future__ import annotations

import random
import socket
from ipaddress import ip_address
from typing import TYPE_CHECKING

import psycopg
import trio

# Private in psycopg, but the one place that knows libpq's rules for several hosts and PG… variables.
from psycopg._conninfo_utils import get_param, split_attempts
from psycopg.conninfo import conninfo_to_dict

from regsvc.errors import ConfigurationError

if TYPE_CHECKING:
    from psycopg.abc import ConnDict, ConnParam


async def find_attempts(conninfo: str, **overrides: ConnParam) -> list[ConnDict]:
    """List the parameters of each attempt to make, in order: one an address, `hostaddr` filled in.

    libpq would resolve names itself, blocking the whole process; it keeps `host` for TLS and for `.pgpass`. What libpq
    does for several hosts (`load_balance_hosts`, `target_session_attrs=prefer-standby`) is done here, since libpq
    sees one at a time. Of several hosts, the one that takes writes is wanted, unless `target_session_attrs` says
    otherwise.

    Raises:
        psycopg.OperationalError: no host has an address.
        ConfigurationError: the conninfo makes no sense.
    """
    try:
        parameters = conninfo_to_dict(conninfo, **overrides)
    except psycopg.ProgrammingError:
        # libpq's message quotes the conninfo, password and all.
        raise ConfigurationError(
            "the database's conninfo is neither a libpq URI nor key=value pairs"
        ) from None
    hosts = split_attempts(parameters)
    if len(hosts) > 1 and get_param(parameters, "target_session_attrs") is None:
        # The others are there to take over: a standby among them is of no use until it has.
        hosts = [host | {"target_session_attrs": "read-write"} for host in hosts]
    prefer_standby = get_param(parameters, "target_session_attrs") == "prefer-standby"
    attempts: list[ConnDict] = []
    failures: list[str] = []
    for attempt in hosts:
        try:
            attempts += await _resolve(attempt)
        except OSError as error:
            failures.append(f"{attempt.get('host')}: {error.strerror or error}")
    if not attempts:
        raise psycopg.OperationalError("no address found for " + ", ".join(failures))
    if get_param(parameters, "load_balance_hosts") == "random":
        random.shuffle(attempts)
    if prefer_standby:
        standby = [attempt | {"target_session_attrs": "standby"} for attempt in attempts]
        attempts = standby + [attempt | {"target_session_attrs": "any"} for attempt in attempts]
    return attempts


async def _resolve(attempt: ConnDict) -> list[ConnDict]:
    host = get_param(attempt, "host")
    # No host, "/directory" and "@abstract" mean a Unix socket.
    if not host or host[0] in "/@" or get_param(attempt, "hostaddr"):
        return [attempt]
    try:
        return [attempt | {"hostaddr": str(ip_address(host))}]
    except ValueError:
        found = await trio.socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        addresses = dict.fromkeys(str(address[0]) for *_, address in found)
        return [attempt | {"hostaddr": address} for address in addresses]
