"""JSON from elsewhere, read so that no other parser could read it differently (RFC 8259, 4; RFC 7493)."""

from __future__ import annotations

import json
from typing import Any, Final, NoReturn

_MAX_NUMBER: Final = 32  # characters


def read_object(raw: bytes) -> dict[str, Any]:
    """Return a JSON object.

    Raises:
        ValueError: it is none, or has a key twice, NaN, or a number beyond any use.
    """
    try:
        value = json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_int=_read_integer,
            parse_constant=_refuse,
        )
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("is no object")  # noqa: TRY004 - of what came
    return value


def read_list(raw: bytes) -> list[Any]:
    """Return a JSON list, read in the same way.

    Raises:
        ValueError: it is none.
    """
    found = read_object(b'{"list":' + raw + b"}")["list"]
    if not isinstance(found, list):
        raise ValueError("is no list")  # noqa: TRY004 - of what came
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("has a key twice")
    return found


def _read_integer(text: str) -> int:
    if len(text) > _MAX_NUMBER:
        raise ValueError("has a number that is too long")
    return int(text)


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"has {text}")
