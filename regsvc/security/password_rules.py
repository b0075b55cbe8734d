"""Which passwords are accepted."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from regsvc.security.passwords import fold, normalize

if TYPE_CHECKING:
    from collections.abc import Container

Policy: TypeAlias = Literal["basic", "strict"]

LONGEST = 128  # characters
STRICT_SHORTEST = 15
_SHORTEST: dict[Policy, int] = {"basic": 8, "strict": STRICT_SHORTEST}
_CONTEXT_WORD = 3  # minimum length of words of the address, name or service that count


@dataclass(frozen=True)
class Weakness:
    """Why a password is refused: a stable code and a sentence."""

    code: str
    detail: str


def check_password(
    policy: Policy,
    password: str,
    *,
    email: str,
    name: str,
    service: str = "",
    common: Container[str] = frozenset(),
) -> list[Weakness]:
    """Return a policy's objections to a new password; none if it is accepted.

    A character is a Unicode code point (NIST SP 800-63B-4, 3.1.1.2), counted after normalisation, so that the length
    does not depend on the keyboard. The whole password is compared, never a part of it.

    Args:
        policy: `basic`: 8 to 128 characters, not equal to the address or the name, ignoring case. `strict`: 15 or
            more, not composed of words of the address, name and service, and not in `common`.
        password: as typed.
        email: email address of the account.
        name: name of the account.
        service: names of the service, in any spelling.
        common: common passwords, folded by `fold`; for `strict`.
    """
    length = len(normalize(password))
    folded = fold(password)
    found = []
    if length < _SHORTEST[policy]:
        found.append(Weakness("too_short", f"Use at least {_SHORTEST[policy]} characters."))
    if length > LONGEST:
        found.append(Weakness("too_long", f"Use at most {LONGEST} characters."))
    if folded == fold(email):
        found.append(Weakness("same_as_email", "Choose a password that is not your email address."))
    if folded == fold(name):
        found.append(Weakness("same_as_name", "Choose a password that is not your name."))
    if policy == "strict" and not found:
        if len(_without_context(folded, f"{email} {name} {service}")) < _SHORTEST["basic"]:
            found.append(
                Weakness(
                    "context_words",
                    "Use more than words from your email address, your name and this service.",
                )
            )
        if folded in common:
            found.append(Weakness("common", "This password is too common."))
    return found


def shortest(policy: Policy) -> int:
    """Return the minimum length of a policy, in characters."""
    return _SHORTEST[policy]


def _without_context(folded: str, context: str) -> str:
    words = {word for word in re.split(r"[\W_]+", fold(context)) if len(word) >= _CONTEXT_WORD}
    for word in sorted(words, key=len, reverse=True):
        folded = folded.replace(word, "")
    return folded
