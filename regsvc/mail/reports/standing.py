"""What all reports about one mail mean together, in whatever order they arrived."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, Protocol, TypeAlias

from regsvc.mail.reports.report import Event, Kind, Reason

Fate: TypeAlias = Literal["delivered", "deferred", "bounced", "failed"]


@dataclass(frozen=True)
class Standing:
    """The last known fate of a mail.

    Args:
        event: `delivered`, `deferred`, `bounced` or `failed`.
        kind: of a bounce or failure.
        reason: of a bounce, failure or delay.
    """

    event: Fate
    kind: Kind | None = None
    reason: Reason | None = None

    @property
    def is_bounce(self) -> bool:
        """Return whether the mail did not reach the mailbox and never will."""
        return self.event in {"bounced", "failed"}


class Dated(Protocol):
    """A report with its time by the reporter's clock."""

    @property
    def event(self) -> Event:
        """What happened."""
        ...

    @property
    def at(self) -> datetime:
        """When it happened."""
        ...

    @property
    def kind(self) -> Kind | None:
        """Kind of a bounce."""
        ...

    @property
    def reason(self) -> Reason | None:
        """Reason of a bounce or delay."""
        ...


# Of two reports with the same time the worse one counts.
_WEIGHT: Final[dict[Event, int]] = {"complained": 0, "deferred": 0, "delivered": 1, "failed": 2, "bounced": 3}


def judge_reports(reports: Iterable[Dated]) -> Standing | None:
    """Return the standing that follows from reports; None without any that says where the mail is.

    The reporter's own times order them, so the result does not depend on the order of arrival. A receiver that took or
    refused the mail has decided: a delay counts only before that, whatever its time. A complaint says that the mail
    arrived, but nothing new about its way.
    """
    decided: Dated | None = None
    delayed: Dated | None = None
    for report in reports:
        if report.event == "deferred":
            if delayed is None or _rank(report) > _rank(delayed):
                delayed = report
        elif report.event != "complained" and (decided is None or _rank(report) > _rank(decided)):
            decided = report
    last = decided or delayed
    if last is None or last.event == "complained":
        return None
    return Standing(last.event, last.kind, last.reason)


def _rank(report: Dated) -> tuple[datetime, int, str, str]:
    return report.at, _WEIGHT[report.event], report.kind or "", report.reason or ""
