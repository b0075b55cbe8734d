"""Errors in the reader's words: the table `errors` of the texts.

Its keys are the codes of errors; for an error of a field, the field and the code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from regsvc.accounts.limits.mail_schedule import TooSoonError
from regsvc.accounts.limits.rate_limit import RateLimitedError
from regsvc.errors import FieldError, RegsvcError, UnavailableError, ValidationFailedError
from regsvc.http.context import get_context
from regsvc.http.pages.texts import Words, fill
from regsvc.http.pages.times import say_moment
from regsvc.security.password_rules import LONGEST, shortest


def explain_error(words: Words, error: RegsvcError, typed: Mapping[str, str] | None = None) -> str:
    """Return what went wrong, and what to do about it.

    Args:
        words: the reader's language.
        error: of a flow.
        typed: what stands in the fields of the form, if it was one.
    """
    if isinstance(error, ValidationFailedError) and error.fields:
        return next(iter(explain_fields(words, error.fields, typed).values()))
    if isinstance(error, TooSoonError):
        return fill(words["errors"]["too_soon"], time=say_moment(error.next_at))
    if isinstance(error, UnavailableError | RateLimitedError) and error.code not in words["errors"]:
        return fill(words["common"]["busy"], seconds=max(1, round(error.retry_after)))
    return words["errors"].get(error.code, words["common"]["failed"])


def explain_fields(
    words: Words, errors: Sequence[FieldError], typed: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the first error of each field.

    Args:
        words: the reader's language.
        errors: as the API has them.
        typed: what stands in the fields; an empty one is missing, whatever else is wrong with it.
    """
    texts = words["errors"]
    told: dict[str, str] = {}
    for error in errors:
        field = error.pointer.removeprefix("/")
        code = "missing" if typed is not None and not typed.get(field, "").strip() else error.code
        kind = field.removeprefix("new_").removeprefix("current_")
        text = (
            texts.get(f"{kind}_{code}")
            or texts.get(code)
            or texts.get(f"{kind}_invalid", words["common"]["failed"])
        )
        told.setdefault(field, fill(text, **get_lengths()))
    return told


def get_lengths() -> dict[str, int]:
    """Return how short and how long a password may be."""
    return {"shortest": shortest(get_context().settings.password_policy), "longest": LONGEST}
