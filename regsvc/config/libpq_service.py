"""Expand a service of `pg_service.conf`.

libpq would resolve the host of a service itself, and block the whole process while a name server does not answer. Hosts
in the conninfo itself are resolved elsewhere, without blocking.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def expand_service(conninfo: str, environ: Mapping[str, str]) -> str:
    """Return a conninfo with the parameters of the service that it, or PGSERVICE, names.

    The conninfo's own parameters win. libpq reports a service that is not found.
    """
    parameters = conninfo_to_dict(conninfo)
    name = parameters.get("service") or environ.get("PGSERVICE")
    if not name:
        return conninfo
    for file in _list_files(environ):
        found = _read_service(file, str(name))
        if found:
            parameters.pop("service", None)
            try:
                return make_conninfo("", **{**found, **parameters})
            except psycopg.ProgrammingError:  # a parameter that libpq does not know
                break
    return conninfo


def _list_files(environ: Mapping[str, str]) -> Iterator[Path]:
    """Yield the service files in libpq's order."""
    if environ.get("PGSERVICEFILE"):
        yield Path(environ["PGSERVICEFILE"])
    elif environ.get("HOME"):
        yield Path(environ["HOME"]) / ".pg_service.conf"
    if environ.get("PGSYSCONFDIR"):
        yield Path(environ["PGSYSCONFDIR"]) / "pg_service.conf"


def _read_service(file: Path, name: str) -> dict[str, str]:
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return {}
    found: dict[str, str] = {}
    inside = False
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            inside = line == f"[{name}]"
        elif inside and "=" in line and not line.startswith(("#", "ldap")):
            key, _, value = line.partition("=")
            found.setdefault(key.strip(), value.strip())
    return found
