"""The report of a check."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import psycopg
import trio

from regsvc.errors import ConfigurationError, RegsvcError

PATIENCE = 15.0  # seconds for each dependency


@dataclass
class Report:
    """The findings about one dependency; without findings it is ready.

    Args:
        name: of the dependency, such as `postgresql`.
        misconfigured: what an operator must change, one text each.
        unavailable: what does not answer or refuses at the moment, one text each.
        notes: what works, but an operator should know about, one text each.
    """

    name: str
    misconfigured: list[str] = field(default_factory=list)
    unavailable: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def problems(self) -> list[str]:
        """All findings that keep `serve` from working."""
        return self.misconfigured + self.unavailable

    def line(self) -> str:
        """Return the report as one line."""
        text = "; ".join(self.problems) or "ok"
        notes = "; ".join(self.notes)
        return f"{self.name:<11} {text}" + (f" ({notes})" if notes else "")

    def show(self) -> dict[str, object]:
        """Return the report for JSON."""
        return {
            "name": self.name,
            "ok": not self.problems,
            "misconfigured": self.misconfigured,
            "unavailable": self.unavailable,
            "notes": self.notes,
        }


Check = Callable[[Report], Awaitable[None]]


async def run_check(name: str, check: Check) -> Report:
    """Run a check, and add its exception to the report, as a configuration error or as an outage."""
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
