"""What became of handing a mail over; `regsvc.mail.smtp.replies` says which reply of a server means what.

* `Accepted`: the server took responsibility for the mail.
* `Delayed`: not now; the same mail may be tried again later.
* `Bounced`: never, for this recipient or this message.
* `Refused`: the server objects to us (log-in, sender, policy), so the next mail would fare no better. Nothing
  is burnt: the mailer pauses and alarms. At `rcpt` or later it may yet be one recipient's own policy; the breaker stops
  everything for it only when several recipients meet it.
* `Aborted`: we changed our mind before the final dot; the mail was not sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

Stage: TypeAlias = Literal[
    "connect",  # name look-up and TCP
    "tls",  # handshake, implicit or after STARTTLS
    "greeting",
    "ehlo",
    "starttls",
    "auth",
    "rset",
    "mail",
    "rcpt",
    "data",  # the reply to DATA, and the content up to the dot
    "dot",  # the dot and the reply that decides
    "quit",
    "write",  # into a Maildir
]

Reason: TypeAlias = Literal[
    # the connection; see CONNECTION_REASONS
    "name_not_resolved",
    "connect_failed",
    "timeout",
    "disconnected",
    "protocol_error",
    "tls_failed",
    "service_unavailable",
    # the recipient or the message
    "temporary_failure",
    "mailbox_busy",
    "mailbox_full",
    "recipient_refused",
    "recipient_invalid",
    "message_refused",
    "message_too_large",
    "smtputf8_not_supported",
    # us
    "session_refused",
    "starttls_not_offered",
    "starttls_refused",
    "starttls_injection",
    "certificate_invalid",
    "auth_not_offered",
    "auth_failed",
    "auth_required",
    "auth_unavailable",
    "sender_refused",
    "policy_refused",
    "command_refused",
    "sending_limit_reached",
    # a Maildir
    "maildir_write_failed",
]

CONNECTION_REASONS: Final[frozenset[Reason]] = frozenset(
    (
        "name_not_resolved",
        "connect_failed",
        "timeout",
        "disconnected",
        "protocol_error",
        "tls_failed",
        "service_unavailable",
    )
)
"""Reasons of a `Delayed` that speak of the server as a whole and not of one mail."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The server answered the dot with 2yz, in `reply`, and is responsible now (RFC 5321, 4.2.5)."""

    reply: str


@dataclass(frozen=True, slots=True)
class Delayed:
    """Not now. `reply` is the server's line, or the system's error, or empty.

    `after_dot`: the dot was on its way and no usable reply came, so the server may have the mail all the
    same, and trying again may double it (RFC 5321, 4.5.3.2.6; RFC 1047).
    """

    reason: Reason
    stage: Stage
    reply: str = ""
    after_dot: bool = False


@dataclass(frozen=True, slots=True)
class Bounced:
    """Never, for this recipient or message."""

    reason: Reason
    stage: Stage
    reply: str = ""


@dataclass(frozen=True, slots=True)
class Refused:
    """The server objects to us; it is a matter for the operator, not for this mail."""

    reason: Reason
    stage: Stage
    reply: str = ""


@dataclass(frozen=True, slots=True)
class Aborted:
    """`before_dot` said no; the connection was dropped without the dot, so the mail was not sent."""


Failure: TypeAlias = Delayed | Bounced | Refused
Outcome: TypeAlias = Accepted | Failure | Aborted
