"""What a check found."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import psycopg
import trio

from regsvc.errors import ConfigurationError, RegsvcError

PATIENCE = 15.0  # seconds for each dependency


@dataclass
class Report:
    """What was found out about one dependency; nothing wrong and nothing to know at first.

    Args:
        name: of the dependency, such as `postgresql`.
        misconfigured: what an operator has to change, one text each.
        unavailable: what does not answer or refuses at the moment, one text each.
        notes: what works, and what an operator should know about it, one text each.
    """

    name: str
    misconfigured: list[str] = field(default_factory=list)
    unavailable: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def problems(self) -> list[str]:
        """Everything that keeps `serve` from its work."""
        return self.misconfigured + self.unavailable

    def line(self) -> str:
        """Return the report as one line."""
        text = "; ".join(self.problems) or "ok"
        notes = "; ".join(self.notes)
        return f"{self.name:<11} {text}" + (f" ({notes})" if notes else "")

    def show(self) -> dict[str, object]:
        """Return the report as JSON has it."""
        return {
            "name": self.name,
            "ok": not self.problems,
            "misconfigured": self.misconfigured,
            "unavailable": self.unavailable,
            "notes": self.notes,
        }


Check = Callable[[Report], Awaitable[None]]


async def run_check(name: str, check: Check) -> Report:
    """Run a check, and report what it raises as well: errors of the configuration apart from all others."""
    report = Report(name)
    try:
        with trio.fail_after(PATIENCE):
            await check(report)
    except ConfigurationError as error:
        report.misconfigured.append(_one_line(error))
    except (RegsvcError, psycopg.Error) as error:
        report.unavailable.append(_one_line(error))
    except trio.TooSlowError:
        report.unavailable.append(f"no answer within {PATIENCE:g} s")
    return report


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
