"""The language that a client asks for (RFC 9110, 12.5.4; RFC 4647, 3.4)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

_LONGEST: Final = 512  # characters of the header that are read; browsers send a tenth of it
_MOST: Final = 32  # entries


def choose_tag(header: str, offered: Collection[str], default: str) -> str:
    """Return the offered tag that a client likes best.

    Args:
        header: `Accept-Language`. Only its beginning is read, so that its length costs nothing.
        offered: tags in lower case.
        default: for a client that likes none of them, or any.
    """
    wanted: list[tuple[float, str]] = []
    for entry in header[:_LONGEST].lower().split(",", _MOST)[:_MOST]:
        tag, *parameters = (part.strip() for part in entry.split(";"))
        if tag:
            wanted.append((_read_quality(parameters), tag.replace("_", "-")))
    for quality, tag in sorted(wanted, key=lambda item: -item[0]):
        if quality <= 0:
            break
        if tag == "*":
            return default
        while tag:
            if tag in offered:
                return tag
            tag = tag.rpartition("-")[0]  # noqa: PLW2901 - RFC 4647 shortens it
    return default


def _read_quality(parameters: list[str]) -> float:
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                quality = float(parameter[2:])
            except ValueError:
                return 0
            return quality if 0 <= quality <= 1 else 0
    return 1
