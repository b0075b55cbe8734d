"""The name that Apple sends beside its answer, the first time only."""

from __future__ import annotations

from regsvc.security.identities.proven_identity import LONGEST_NAME, clean
from regsvc.security.identities.strict_json import read_object

_LONGEST = 2048  # characters


def read_apple_name(text: str) -> str:
    """Return the name in the field `user`; empty if there is none. Its address is not looked at: nothing proves it."""
    if not text or len(text) > _LONGEST:
        return ""
    try:
        found = read_object(text.encode("utf-8", "replace")).get("name")
    except ValueError:
        return ""
    if not isinstance(found, dict):
        return ""
    parts = [clean(found.get(part), LONGEST_NAME) for part in ("firstName", "lastName")]
    return clean(" ".join(filter(None, parts)), LONGEST_NAME)
