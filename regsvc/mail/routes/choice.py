"""Which outcomes of a route let the next one be tried. Pure functions."""

from __future__ import annotations

import re
from typing import Final

from regsvc.mail.outcome import CONNECTION_REASONS, Bounced, Delayed, Outcome, Refused
from regsvc.mail.queue.verdict import EARLY

# The server's own trouble (RFC 3463, 3.4), not the recipient's.
_OWN_TROUBLE: Final = re.compile(r"4\d\d[ -]4\.3\.\d")


def moves_on(outcome: Outcome, *, alike: bool = False) -> bool:
    """Return whether the next route is tried at once.

    The mail was not accepted, for a reason that lies with this route or with us. What is said of the recipient is as
    true by another way, and an outcome that is unknown would send the mail twice.

    Args:
        outcome: of the attempt on this route.
        alike: several recipients were refused in the same words, so that it is about us.
    """
    match outcome:
        case Delayed(after_dot=True):
            return False
        case Delayed(reason=reason, stage=stage, reply=reply):
            return stage in EARLY or reason in CONNECTION_REASONS or bool(_OWN_TROUBLE.match(reply))
        case Refused():
            return True
        case Bounced():
            return alike
        case _:
            return False


def is_down(outcome: Outcome) -> bool:
    """Return whether the attempt shows that the route cannot be used at this moment."""
    if isinstance(outcome, Refused):
        return outcome.stage in EARLY
    return isinstance(outcome, Delayed) and (outcome.stage in EARLY or outcome.reason in CONNECTION_REASONS)
