"""Environment variables: the setting that each one sets, and secret files that some name."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

_PREFIX = "REGSVC_"
# Not a setting: the handle is read by `regsvc watch`, which needs none.
_FOREIGN = frozenset({"REGSVC_HANDLE"})
_LONGEST_SECRET = 65_536
# Variables that Kubernetes sets in every container for a Service named `regsvc` or `regsvc-…`, unless the pod sets
# `enableServiceLinks: false`. Our port is a number, theirs a URL.
_SERVICE_HOST = re.compile(r"REGSVC(_\w+)?_SERVICE_(HOST|PORT(_\w+)?)")
_SERVICE_PORT = re.compile(r"REGSVC(_\w+?)??_PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?")
_SERVICE_URL = re.compile(r"(tcp|udp|sctp)://")


def variable(field: str) -> str:
    """Return the environment variable of a setting."""
    return _PREFIX + field.upper()


def is_service_link(name: str, value: str) -> bool:
    """Return whether a variable was set by Kubernetes for a Service, and so is not a setting."""
    if _SERVICE_HOST.fullmatch(name):
        return True
    found = _SERVICE_PORT.fullmatch(name)
    return found is not None and (found[2] is not None or _SERVICE_URL.match(value) is not None)


def read(
    environ: Mapping[str, str],
    *,
    fields: Collection[str],
    secrets: Collection[str],
    wanted: Collection[str],
    problems: dict[str, str],
) -> dict[str, str]:
    """Return the values that are set, by field name.

    Args:
        environ: the environment.
        fields: all settings; any other name with our prefix is a problem.
        secrets: settings that can also be set by `…_FILE`.
        wanted: settings whose values are read.
        problems: filled with a line per unknown, contradictory or unreadable variable, by its name.
    """
    known = {variable(field): field for field in fields}
    files = {f"{variable(field)}_FILE": field for field in secrets}
    values: dict[str, str] = {}
    for name, value in sorted(environ.items()):
        if not name.startswith(_PREFIX) or name.startswith("REGSVC_TEST_") or name in _FOREIGN:
            continue
        if is_service_link(name, value):
            continue
        field = known.get(name) or files.get(name)
        if field is None:
            nearest = difflib.get_close_matches(name, [*known, *files], n=1)
            problems[name] = f"{name} is not a setting" + "".join(
                f"; did you mean {near}?" for near in nearest
            )
        elif not value or field not in wanted:
            continue
        elif name in known:
            values[field] = value
        elif environ.get(variable(field)):
            problems[variable(field)] = f"{name} and {variable(field)} are both set; remove one"
        else:
            try:
                values[field] = _read_secret(Path(value))
            except (OSError, ValueError) as error:
                reason = error.strerror if isinstance(error, OSError) else error
                problems[variable(field)] = f"{name}: the file is not readable ({reason})"
    return values


def _read_secret(path: Path) -> str:
    """Read a secret from a file, without what editors and tools add: a byte order mark, white space, line ends."""
    with path.open("rb") as file:
        data = file.read(_LONGEST_SECRET + 1)
    if not data.strip() or len(data) > _LONGEST_SECRET:
        raise ValueError(f"it is empty or longer than {_LONGEST_SECRET} bytes")
    try:
        return data.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
