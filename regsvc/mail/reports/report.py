"""The one vocabulary of reports, whatever provider or receiver sends them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Literal, TypeAlias

from regsvc.errors import RegsvcError

Event: TypeAlias = Literal["delivered", "deferred", "bounced", "complained", "failed"]
Kind: TypeAlias = Literal["hard", "soft", "block"]
Reason: TypeAlias = Literal[
    "no_such_mailbox",
    "no_such_domain",
    "mailbox_full",
    "blocked_as_spam",
    "policy",
    "timed_out",
    "other",
]


class ReportUnreadableError(RegsvcError):
    """This is not a report in the expected format."""

    code = "report_unreadable"


@dataclass(frozen=True)
class Clues:
    """What a report says about the mail that it concerns; nothing of it is proved.

    Args:
        return_paths: addresses that may be an envelope sender of ours.
        message_ids: Message-IDs, without angle brackets.
        mail_ids: our ids in a header, tag or ENVID.
        provider_id: the provider's own id.
    """

    return_paths: tuple[str, ...] = ()
    message_ids: tuple[str, ...] = ()
    mail_ids: tuple[str, ...] = ()
    provider_id: str | None = None


@dataclass(frozen=True)
class Report:
    """One event in the life of an accepted mail.

    Args:
        source: name of the provider, or `dsn` or `arf`.
        id: identifies the event at its source; the same event reported twice has the same id.
        event: what happened.
        at: when, by the clock of the reporter.
        kind: of a bounce or failure.
        reason: of a bounce, failure or delay.
        clues: to the mail.
    """

    source: str
    id: str
    event: Event
    at: datetime
    kind: Kind | None = None
    reason: Reason | None = None
    clues: Clues = field(default_factory=Clues)

    @property
    def key(self) -> bytes:
        """Return the digest by which a repeated report is recognised."""
        return sha256(f"{self.source}\0{self.event}\0{self.id}".encode("utf-8", "surrogatepass")).digest()
