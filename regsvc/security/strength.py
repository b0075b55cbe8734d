"""How long a password would hold against guessing: zxcvbn's estimate, for people to read while they type.

It decides nothing: what is taken is the policy's business (`passwords.check_password`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import trio

_LOOKED_AT = 40  # characters; the estimate's time grows with their square, and more would not make it worse
# Every way to read digits and signs as letters is tried, and their number doubles with each one that has two readings:
# 40 crafted characters took a second. What has more than a few different ones is read in one way.
_LEET = str.maketrans("4@8({[<369!|10$57+%2", "aabcccceggiiiossttxz")
_FEW = 4
_AT_ONCE = trio.CapacityLimiter(1)
_WAITING = 8


async def rate_password(password: str, context: Sequence[str] = ()) -> int | None:
    """Return 0 (guessed at once) to 4 (very strong), or None when too many ask at the same time.

    Args:
        password: as typed; its first 40 characters are looked at.
        context: what else is known of the person: a password made of it is guessed early.
    """
    if _AT_ONCE.statistics().tasks_waiting >= _WAITING:
        return None
    return await trio.to_thread.run_sync(
        _rate, password[:_LOOKED_AT], [word[:_LOOKED_AT] for word in context], limiter=_AT_ONCE
    )


def _rate(password: str, context: list[str]) -> int:
    # Its lists of words take 14 MB, which a process that nobody signs up at by a page need not have.
    from zxcvbn import zxcvbn  # type: ignore[import-untyped]  # noqa: PLC0415 - it has no types

    words = [word for text in context for word in [text, *text.split("@"), *re.split(r"[\W_]+", text)]]
    return int(zxcvbn(_bound(password), user_inputs=words)["score"])


def _bound(password: str) -> str:
    """Return a password whose estimate takes milliseconds, and never comes out better than that of the one typed."""
    signs = {char for char in password if ord(char) in _LEET}
    return password.translate(_LEET) if len(signs) > _FEW else password
