"""Proof of work: tasks that cost a client's processor some moments, and ours next to nothing (ALTCHA, version 2).

A client tries numbers until the hash of nonce and number begins as asked. The parameters of a task are signed, so that
none is stored. They name the purpose and the end of the task.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from regsvc.errors import RegsvcError
from regsvc.security.tokens import Secrets

WORK = 200_000  # numbers of which one is the answer: half of them are tried on average
LIFE = 600  # seconds; a slow phone needs some
LONGEST = 2048  # characters of a solution; one has some 600
_LABEL = "challenge"
_ALGORITHM = "SHA-256"


class ChallengeNeededError(RegsvcError):
    """Solve the challenge in this answer, and send the request again with the solution."""

    code = "challenge_needed"

    def __init__(self, challenge: dict[str, Any]) -> None:
        """Args: challenge: the task to solve."""
        super().__init__()
        self.members = {"challenge": challenge}


@dataclass(frozen=True)
class Solved:
    """A task whose solution is right.

    Args:
        signature: of the task, which no other has.
        expires_at: end of the task.
    """

    signature: str
    expires_at: datetime


def mint_challenge(secrets_: Secrets, purpose: str) -> dict[str, Any]:
    """Return a new task in the form that ALTCHA's clients read.

    Args:
        secrets_: sign it.
        purpose: the call that its solution opens, and no other.
    """
    import altcha  # noqa: PLC0415 - brings an HTTP client along, and most services ask for no proof of work

    return altcha.create_challenge(
        _ALGORITHM,
        1,
        counter=secrets.randbelow(WORK),
        expires_at=int(time.time()) + LIFE,
        data={"purpose": purpose},
        hmac_secret=secrets_.key(_LABEL),
    ).to_dict()


def read_solution(secrets_: Secrets, text: str, purpose: str) -> Solved | None:
    """Return the task that a text solves; None if it is no solution, of another purpose, or too late.

    Args:
        secrets_: verify the task; one that the previous secret signed counts.
        text: as ALTCHA's clients write it: Base64 of JSON.
        purpose: of the call.
    """
    if not text or len(text) > LONGEST:
        return None
    import altcha  # noqa: PLC0415 - as above

    try:
        payload = altcha.Payload.from_base64(text)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    parameters = payload.challenge.parameters
    if not any(altcha.verify_solution(payload, key).verified for key in secrets_.keys(_LABEL)):
        return None
    # From here on the task is one of ours.
    if parameters.data != {"purpose": purpose} or parameters.expires_at is None:
        return None
    return Solved(str(payload.challenge.signature), datetime.fromtimestamp(parameters.expires_at, UTC))
