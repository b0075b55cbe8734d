"""How the processes of a service are: one snapshot, as it travels from the supervisor to each of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from regsvc.supervisor import ChildStatistics


@dataclass(frozen=True)
class ProcessState:
    """One process.

    Args:
        number: from 1.
        pid: None while it does not run.
        state: of its life, as of a child of the supervisor.
        lives: how often it was started.
        failures: how often it died.
        failures_in_a_row: those that are not forgotten yet.
        last_error: how it died last; None before.
        next_try: seconds until it is started again, while it waits for that.
    """

    number: int
    pid: int | None
    state: str
    lives: int
    failures: int
    failures_in_a_row: int
    last_error: str | None
    next_try: float | None

    def to_message(self) -> dict[str, Any]:
        """Return it as it travels."""
        return asdict(self)


def make_state(number: int, pid: int | None, statistics: ChildStatistics) -> ProcessState:
    """Return the state of a process from what its supervisor knows."""
    return ProcessState(
        number=number,
        pid=pid,
        state=statistics.state,
        lives=statistics.lives,
        failures=statistics.failures,
        failures_in_a_row=statistics.failures_in_a_row,
        last_error=statistics.last_error,
        next_try=statistics.next_try,
    )
