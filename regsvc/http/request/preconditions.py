"""What a client knows already, as entity tags (RFC 9110 section 8.8.3); ours are the numbers of versions."""

from __future__ import annotations

import re

from quart import request

_TAGS = re.compile(r'(W/)?"([\x21\x23-\x7e\x80-\xff]*)"')
_VERSION = re.compile(r"[1-9][0-9]{0,8}")  # more digits, and it is no version that the database could have


def entity_tag(version: int) -> str:
    """Return the entity tag of a version."""
    return f'"{version}"'


def read_if_match() -> list[int] | None:
    """Parse If-Match. Return None for `*` or no header, an empty list if nothing can match.

    A weak tag matches nothing (RFC 9110 section 13.1.1).
    """
    header = _join("If-Match")
    if header is None or header == "*":
        return None
    return [int(tag) for weak, tag in _TAGS.findall(header) if not weak and _VERSION.fullmatch(tag)]


def is_known(version: int) -> bool:
    """Return whether the client has this version already (RFC 9110 section 13.1.2)."""
    header = _join("If-None-Match")
    return header is not None and (
        header == "*" or any(tag == str(version) for _, tag in _TAGS.findall(header))
    )


def _join(name: str) -> str | None:
    values = request.headers.getlist(name)
    return ", ".join(value.strip() for value in values) if values else None
