"""Connect to the first PostgreSQL server that accepts a connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import psycopg
import trio
from psycopg import errors
from psycopg.conninfo import make_conninfo, timeout_from_conninfo

from regsvc.postgres.addresses import find_attempts, put_first
from regsvc.postgres.session import complete
from regsvc.postgres.waiting import drive_connecting

if TYPE_CHECKING:
    from collections.abc import Callable

    from psycopg.abc import ConnParam, PQGenConn

    from regsvc.postgres.addresses import Address

C = TypeVar("C")


async def open_first(
    connect: Callable[[str], PQGenConn[C]],
    conninfo: str,
    *,
    seconds: float,
    prefer: Address | None = None,
    **parameters: ConnParam,
) -> C:
    """Connect to the first server of `conninfo` that accepts us.

    Args:
        connect: makes psycopg's generator for a connection.
        conninfo: a libpq URI or key/value string, also with several hosts or a Unix socket.
        seconds: total time. Each address gets an equal share of what is left, so that one that never answers does not
            use up the time of the next; a `connect_timeout` of the conninfo caps the share.
        prefer: address that is tried first, if it is one of several that are asked for the one that takes writes.
        parameters: override those of `conninfo`.

    Raises:
        psycopg.OperationalError: no server answered in time, or none accepts us.
        ConfigurationError: the conninfo is invalid.
    """
    failures: list[psycopg.Error] = []
    deadline = trio.current_time() + seconds
    with trio.move_on_at(deadline):
        attempts = put_first(await find_attempts(conninfo, **parameters), prefer)
        for index, attempt in enumerate(attempts):
            share = max(0.0, deadline - trio.current_time()) / (len(attempts) - index)
            try:
                with trio.move_on_after(min(share, timeout_from_conninfo(attempt))):
                    return await drive_connecting(connect(make_conninfo("", **complete(attempt))))
                failures.append(errors.ConnectionTimeout(f"{attempt.get('host')} did not answer"))
            except psycopg.Error as error:
                failures.append(error)
    if not failures:
        raise errors.ConnectionTimeout(f"no server answered within {seconds:g} s")
    if len(failures) == 1:
        raise failures[0]
    raise type(failures[-1])(
        "no server accepts the connection: " + "; ".join(map(str, failures))
    ) from failures[-1]
