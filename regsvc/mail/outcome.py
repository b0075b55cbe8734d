"""The outcome of a delivery attempt; `regsvc.mail.smtp.replies` maps a server's replies to outcomes.

* `Accepted`: the server took responsibility for the mail.
* `Delayed`: not now; the same mail may be retried later.
* `Bounced`: never, for this recipient or this message.
* `Refused`: the server objects to us (login, sender, policy), so the next mail would fare no better. The mail is not
  lost: the mailer pauses and raises an alarm. At `rcpt` or later it may be one recipient's own policy; the breaker
  stops everything only when several recipients are refused.
* `Aborted`: `before_dot` withdrew the mail before the final dot; it was not sent.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

Stage: TypeAlias = Literal[
    "connect",  # name resolution and TCP
    "tls",  # handshake, implicit or after STARTTLS
    "greeting",
    "ehlo",
    "starttls",
    "auth",
    "rset",
    "mail",
    "rcpt",
    "data",  # the reply to DATA, and the content up to the dot
    "dot",  # the dot and the final reply
    "quit",
    "write",  # into a Maildir
    "request",  # of an HTTP API, and its answer
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
"""Reasons of a `Delayed` that concern the whole server rather than one mail."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The server answered the dot with 2yz, in `reply`, and is now responsible (RFC 5321, 4.2.5).

    `provider_id` is the id by which a provider's API will report; `route` the way that the mail went.
    """

    reply: str
    provider_id: str | None = None
    route: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Delayed:
    """Not now. `reply` is the server's line, or the system's error, or empty.

    `after_dot`: the dot was on its way and no usable reply arrived, so the server may have the mail all the same, and
    a retry may send it twice (RFC 5321, 4.5.3.2.6; RFC 1047).

    `route` is the way that was tried last. `elsewhere`: another way is open, so the failure says nothing of all ways.
    """

    reason: Reason
    stage: Stage
    reply: str = ""
    after_dot: bool = False
    route: str = field(default="", compare=False)
    elsewhere: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class Bounced:
    """Never, for this recipient or message."""

    reason: Reason
    stage: Stage
    reply: str = ""
    route: str = field(default="", compare=False)
    elsewhere: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class Refused:
    """The server objects to us: a problem for the operator, not of this mail."""

    reason: Reason
    stage: Stage
    reply: str = ""
    route: str = field(default="", compare=False)
    elsewhere: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class Aborted:
    """`before_dot` returned False: the connection was dropped without the dot, so the mail was not sent."""


Failure: TypeAlias = Delayed | Bounced | Refused
Outcome: TypeAlias = Accepted | Failure | Aborted
