"""Kind and reason of a bounce, also of mails that the mail server refused at once."""

from __future__ import annotations

from typing import Final, get_args

from regsvc.mail.reports.report import Kind, Reason

_REFUSALS: Final[dict[str, tuple[Kind, Reason]]] = {
    "recipient_refused": ("hard", "no_such_mailbox"),
    "recipient_invalid": ("hard", "no_such_mailbox"),
    "smtputf8_not_supported": ("hard", "no_such_mailbox"),
    "mailbox_full": ("soft", "mailbox_full"),
    "message_refused": ("block", "policy"),
    "message_too_large": ("block", "policy"),
    "policy_refused": ("block", "policy"),
    "gave_up": ("soft", "timed_out"),
}
_REASONS: Final = get_args(Reason)


def explain_bounce(kind: Kind | None, reason: str | None) -> tuple[Kind, Reason]:
    """Return kind and reason of a bounce in the vocabulary of reports.

    Args:
        kind: that was reported; None if the mail server refused the mail itself.
        reason: of the registration, in either vocabulary.
    """
    for known in _REASONS:
        if reason == known and kind is not None:
            return kind, known
    return _REFUSALS.get(reason or "", (kind or "soft", "other"))
