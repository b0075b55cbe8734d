"""`python -m regsvc`, but every password is hashed at bcrypt's least cost: for tests whose subject is not the hash.

Start it as a file, with the arguments of the command line. The settings are checked as ever.
"""

from __future__ import annotations

from typing import Any

from regsvc.__main__ import _without, main

with _without("rich", "greenlet"):
    from regsvc.security import passwords

LEAST_COST = 4
_begin = passwords.HashingLane.__init__


def _begin_cheap(lane: passwords.HashingLane, **arguments: Any) -> None:
    _begin(lane, **{**arguments, "cost": LEAST_COST})


if __name__ == "__main__":
    passwords.MIN_COST = LEAST_COST
    passwords.HashingLane.__init__ = _begin_cheap  # type: ignore[assignment, method-assign]  # the one difference
    main()
