"""Reasons from the enhanced status codes and words of receivers (RFC 3463)."""

from __future__ import annotations

import re
from typing import Final

from regsvc.mail.reports.report import Kind, Reason

_CODE: Final = re.compile(r"\b([245])\.(\d{1,3})\.(\d{1,3})\b")
_SPAM: Final = re.compile(
    r"\b(spam|spamhaus|blocklist|blacklist|blocked|reputation|junk|dnsbl|rbl)\b", re.IGNORECASE
)
_FULL: Final = re.compile(
    r"(over ?quota|quota exceeded|mailbox (is )?full|insufficient storage)", re.IGNORECASE
)
_UNKNOWN: Final = re.compile(
    r"(user unknown|no such user|unknown user|does not exist|no such mailbox|mailbox not found|invalid recipient"
    r"|recipient rejected|account (is )?disabled|no mailbox)",
    re.IGNORECASE,
)

_SUBJECTS: Final[dict[str, tuple[Kind, Reason]]] = {
    "1.1": ("hard", "no_such_mailbox"),
    "1.2": ("hard", "no_such_domain"),
    "1.3": ("hard", "no_such_mailbox"),
    "1.6": ("hard", "no_such_mailbox"),
    "1.10": ("hard", "no_such_domain"),  # null MX (RFC 7505)
    "2.0": ("soft", "other"),
    "2.1": ("hard", "no_such_mailbox"),  # disabled
    "2.2": ("soft", "mailbox_full"),
    "2.3": ("block", "policy"),
    "3.4": ("block", "policy"),
    "4.1": ("soft", "timed_out"),
    "4.3": ("soft", "other"),
    "4.4": ("hard", "no_such_domain"),
    "4.6": ("soft", "other"),
    "4.7": ("soft", "timed_out"),
}


def explain_status(status: str, words: str = "") -> tuple[Kind, Reason]:
    """Return kind and reason of a permanent failure from its enhanced status code and the receiver's words."""
    found = _CODE.search(status) or _CODE.search(words)
    if found is not None and found[2] == "7":
        return ("block", "blocked_as_spam") if _SPAM.search(words) else ("block", "policy")
    if found is not None and (known := _SUBJECTS.get(f"{found[2]}.{found[3]}")):
        return known
    if _FULL.search(words):
        return "soft", "mailbox_full"
    if _UNKNOWN.search(words):
        return "hard", "no_such_mailbox"
    if _SPAM.search(words):
        return "block", "blocked_as_spam"
    return "soft", "other"
