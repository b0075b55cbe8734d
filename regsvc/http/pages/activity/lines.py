"""Events of an account in the words of its owner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from regsvc.accounts.audit.activity import Activity
from regsvc.http.pages.texts import Words

LINES = 15
# The text of each event; several that mean the same to its owner share one.
_TEXTS = {
    "logged_in": "logged_in",
    **dict.fromkeys(("login_failed", "second_factor_failed", "password_refused"), "failed"),
    **dict.fromkeys(("logged_out", "logged_out_everywhere", "session_ended", "sessions_ended"), "ended"),
    **dict.fromkeys(("refresh_token_reused", "session_cookie_reused"), "copied"),
    **dict.fromkeys(("password_changed", "password_reset"), "password"),
    "password_reset_asked": "password_asked",
    "email_change_asked": "address_asked",
    "email_changed": "address",
    **dict.fromkeys(
        ("email_change_undone", "email_change_undo_asked", "email_change_repudiated"), "address_undone"
    ),
    **dict.fromkeys(("totp_added", "passkey_added", "identity_added", "recovery_codes_renewed"), "added"),
    **dict.fromkeys(("totp_removed", "passkey_removed", "identity_removed", "factors_reset"), "removed"),
    "recovery_code_used": "recovery_code",
    "account_taken_back": "taken_back",
    "account_created": "created",
    **dict.fromkeys(("profile_changed", "terms_accepted"), "profile"),
    "account_exported": "exported",
}
# Steps of what another line tells.
_SKIPPED = {"proof_given", "mail_reported"}


@dataclass
class Line:
    """One line of the list.

    Args:
        text: what happened.
        at: when, the last time.
        origin: network prefix of the client; empty if unknown.
        client: short name of the client's software; empty if unknown.
        by_admin: whether an administrator or operator did it.
        count: how often it happened in a row.
    """

    text: str
    at: datetime
    origin: str
    client: str
    by_admin: bool
    count: int = 1


def sum_up(words: Words, events: Sequence[Activity]) -> list[Line]:
    """Return the newest events as lines; the same thing from the same place in a row is one line."""
    lines: list[Line] = []
    for event in events:
        if event.event in _SKIPPED:
            continue
        line = Line(
            text=words["activity"][_TEXTS.get(event.event, "other")],
            at=event.at,
            origin=event.origin or "",
            client=event.client or "",
            by_admin=event.actor in {"admin", "operator", "service_token"},
        )
        last = lines[-1] if lines else None
        if last is not None and (last.text, last.origin, last.client, last.by_admin) == (
            line.text,
            line.origin,
            line.client,
            line.by_admin,
        ):
            last.count += 1
        else:
            lines.append(line)
    return lines[:LINES]
