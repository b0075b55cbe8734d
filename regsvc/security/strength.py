"""How well a password resists guessing: zxcvbn's estimate, shown to users while they type.

It decides nothing: the policy does (`password_rules.check_password`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import trio

_LOOKED_AT = 40  # characters; the time is quadratic in their number, and more cannot make the estimate worse
# zxcvbn tries every reading of digits and signs as letters, and their number doubles with each sign that has two
# readings: 40 crafted characters took a second. Texts with more than a few different ones are read in one way only.
_LEET = str.maketrans("4@8({[<369!|10$57+%2", "aabcccceggiiiossttxz")
_FEW = 4
_AT_ONCE = trio.CapacityLimiter(1)
_WAITING = 8


async def rate_password(password: str, context: Sequence[str] = ()) -> int | None:
    """Return 0 (very weak) to 4 (very strong), or None when too many ask at the same time.

    Args:
        password: as typed; only its first 40 characters are rated.
        context: what else is known about the user, since passwords made of it are guessed early.
    """
    if _AT_ONCE.statistics().tasks_waiting >= _WAITING:
        return None
    return await trio.to_thread.run_sync(
        _rate, password[:_LOOKED_AT], [word[:_LOOKED_AT] for word in context], limiter=_AT_ONCE
    )


def _rate(password: str, context: list[str]) -> int:
    # Imported on first use: its word lists take 14 MB, which a process without the sign-up page does not need.
    from zxcvbn import zxcvbn  # type: ignore[import-untyped]  # noqa: PLC0415 - it has no types

    words = [word for text in context for word in [text, *text.split("@"), *re.split(r"[\W_]+", text)]]
    return int(zxcvbn(_bound(password), user_inputs=words)["score"])


def _bound(password: str) -> str:
    """Return a password that is rated within milliseconds, and never rated better than the one typed."""
    signs = {char for char in password if ord(char) in _LEET}
    return password.translate(_LEET) if len(signs) > _FEW else password
