"""What is wrong with a field, in the reader's words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from regsvc.errors import FieldError
from regsvc.http.context import get_context
from regsvc.http.pages.page import fill
from regsvc.http.pages.texts import Words, get_words
from regsvc.security.passwords import LONGEST, shortest


def explain(
    faults: Sequence[FieldError], typed: Mapping[str, str] | None = None, *, words: Words | None = None
) -> dict[str, str]:
    """Return the first fault of each field in the reader's words.

    Args:
        faults: as the API has them.
        typed: what stands in the fields; an empty one is missing, whatever else is wrong with it.
        words: the reader's language, if not the one that the browser asks for.
    """
    known = words or get_words()
    texts, failed = known["signup"], known["common"]["failed"]
    told: dict[str, str] = {}
    for fault in faults:
        field = fault.pointer.removeprefix("/")
        code = fault.code if typed is None or typed[field].strip() else "missing"
        kind = field.removeprefix("new_").removeprefix("current_")
        text = texts.get(f"{kind}_{code}") or texts.get(f"{kind}_invalid", failed)
        told.setdefault(field, fill(text, **get_lengths()))
    return told


def get_lengths() -> dict[str, int]:
    """Return how short and how long a password may be."""
    return {"shortest": shortest(get_context().settings.password_policy), "longest": LONGEST}
