"""Resolve the addresses of a conninfo without blocking Trio."""

from __future__ import annotations

import random
import socket
from ipaddress import ip_address
from typing import TYPE_CHECKING, TypeAlias

import psycopg
import trio

# Private in psycopg, but nothing else implements libpq's rules for several hosts and PG… variables.
from psycopg._conninfo_utils import get_param, split_attempts
from psycopg.conninfo import conninfo_to_dict

from regsvc.errors import ConfigurationError

if TYPE_CHECKING:
    from psycopg.abc import ConnDict, ConnParam
    from psycopg.pq.abc import PGconn

Address: TypeAlias = tuple[str, str]
"""The IP address or socket directory of a server, and its port."""
_PORT = 5432  # libpq's own


async def find_attempts(conninfo: str, **overrides: ConnParam) -> list[ConnDict]:
    """Return the parameters of each connection attempt, in order: one per address, with `hostaddr` set.

    libpq would resolve names itself, blocking the process. `host` is kept for TLS and `.pgpass`. libpq's rules for
    several hosts (`load_balance_hosts`, `target_session_attrs=prefer-standby`) are applied here, since libpq sees one
    host at a time. Of several hosts, the one that accepts writes is chosen, unless `target_session_attrs` differs.

    Raises:
        psycopg.OperationalError: no host has an address.
        ConfigurationError: the conninfo is invalid.
    """
    try:
        parameters = conninfo_to_dict(conninfo, **overrides)
    except psycopg.ProgrammingError:
        # libpq's message quotes the conninfo, with its password.
        raise ConfigurationError(
            "the database's conninfo is neither a libpq URI nor key=value pairs"
        ) from None
    hosts = split_attempts(parameters)
    if len(hosts) > 1 and get_param(parameters, "target_session_attrs") is None:
        # The other hosts are for failover: a standby is of no use until it is promoted.
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


def put_first(attempts: list[ConnDict], address: Address | None) -> list[ConnDict]:
    """Return attempts with those at an address first, where any server will do that takes writes.

    After a fail-over the host before in the conninfo may be silent, and each connection would wait for it.
    """
    wanted = {get_param(attempt, "target_session_attrs") for attempt in attempts}
    spread = any(get_param(attempt, "load_balance_hosts") == "random" for attempt in attempts)
    if address is None or spread or not wanted <= {"read-write", "primary"}:
        return attempts
    return sorted(attempts, key=lambda attempt: _address_of(attempt) != address)


def _address_of(attempt: ConnDict) -> Address:
    place = get_param(attempt, "hostaddr") or get_param(attempt, "host") or ""
    return str(place), str(get_param(attempt, "port") or _PORT)


def find_address(pgconn: PGconn) -> Address:
    """Return the address of the server at the other end of a connection."""
    return (pgconn.hostaddr or pgconn.host).decode(), pgconn.port.decode()


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
