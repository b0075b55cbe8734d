"""Ask a client for proof of work before a call that mails or hashes.

`regsvc.flows.rate_limits` calls this for every such call, before the call is counted against its limits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias, get_args

from regsvc.accounts.limits.rate_limit import Demand, Standing, is_half_used, look_at_limits
from regsvc.accounts.limits.solutions import spend_solution
from regsvc.flows.caller import Caller
from regsvc.flows.service import Service
from regsvc.metrics import CHALLENGES
from regsvc.security.challenge import ChallengeNeededError, mint_challenge, read_solution

Purpose: TypeAlias = Literal[
    "register",
    "correct",
    "resend",
    "forgot",
    "login",
    "login-code",
    "password",
    "confirm",
    "accept",
    "reset",
    "undo",
]
PURPOSES: tuple[Purpose, ...] = get_args(Purpose)


async def require_solution(
    service: Service, caller: Caller, purpose: Purpose, demands: Sequence[Demand]
) -> None:
    """Refuse a request without a solution where one is needed, and take the solution of any other.

    Args:
        service: where solutions are noted.
        caller: whose request it is; one that solved a challenge is asked for no second one.
        purpose: of the call.
        demands: what the request will be counted against; empty where no limits apply.

    Raises:
        ChallengeNeededError: it has no solution, or one that is wrong, too late, for another call or used before.
        DatabaseUnavailableError: the solution cannot be noted.
    """
    if caller.cleared or not await is_needed(service, demands):
        return
    solved = read_solution(service.secrets, caller.solution, purpose)
    if solved is not None:
        async with service.pool.connection() as conn:
            caller.cleared = await spend_solution(conn, solved)
    if not caller.cleared:
        raise _refuse(service, caller, purpose)
    CHALLENGES.labels("solved").inc()


def require_after(service: Service, caller: Caller, purpose: Purpose, standings: Sequence[Standing]) -> None:
    """Refuse a request that turned out to be beyond half of a limit: many came at the same moment.

    Raises:
        ChallengeNeededError: it has no solution.
    """
    if service.settings.challenge == "auto" and not caller.cleared and any(map(is_half_used, standings)):
        raise _refuse(service, caller, purpose)


async def is_needed(service: Service, demands: Sequence[Demand]) -> bool:
    """Return whether a request that is counted against these limits needs a solution."""
    mode = service.settings.challenge
    if mode != "auto":
        return mode == "on"
    if not demands:
        return False
    async with service.pool.connection() as conn:
        standings = await look_at_limits(conn, demands)
    # What a limit refuses anyway is told to wait, not to work.
    return any(map(is_half_used, standings)) and all(each.reset <= each.limit.seconds for each in standings)


def _refuse(service: Service, caller: Caller, purpose: Purpose) -> ChallengeNeededError:
    CHALLENGES.labels("refused" if caller.solution else "asked").inc()
    return ChallengeNeededError(mint_challenge(service.secrets, purpose))
