"""What became of handing a mail over, and the one table that says what a server's reply means.

* `Accepted`: the server took responsibility for the mail.
* `Delayed`: not now; the same mail may be tried again later.
* `Bounced`: never, for this recipient or this message.
* `Refused`: the server objects to us (log-in, sender, policy), so the next mail would fare no better. Nothing
  is burnt: whoever sends pauses and alarms. At `rcpt` or later it may yet be one recipient's own policy; stop
  everything for it only when more than one recipient meets it.
* `Aborted`: we changed our mind before the final dot; the mail was not sent.
"""

from __future__ import annotations

import re
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

_Verdict: TypeAlias = type[Delayed] | type[Bounced] | type[Refused]

# The first row that matches decides. Codes: RFC 5321, 4.2.3; RFC 4954, 6; RFC 7504. Enhanced codes: RFC 3463
# and IANA's registry; "-" stands for none. Columns are regular expressions for the whole word; as an enhanced
# code has two dots and digits only, an unescaped dot can match nothing else there.
_TABLE: Final[tuple[tuple[str, str, str, _Verdict, Reason], ...]] = (
    # 4yz: the same may succeed later (RFC 5321, 4.2.1); 421 ends the session at any stage (3.8).
    (".*", "421", ".*", Delayed, "service_unavailable"),
    ("auth", "4..", ".*", Delayed, "auth_unavailable"),
    (".*", "4..", "4.2.2", Delayed, "mailbox_full"),
    ("rcpt|dot", "450", ".*", Delayed, "mailbox_busy"),
    (".*", "4..", ".*", Delayed, "temporary_failure"),
    # Before the first mail everything is about us.
    ("greeting|ehlo", "5..", ".*", Refused, "session_refused"),
    ("starttls", "5..", ".*", Refused, "starttls_refused"),
    ("auth", "5..", ".*", Refused, "auth_failed"),
    # Credentials wanted, at whatever command the server chose to say so (RFC 4954, 6).
    ("mail|rcpt|data|dot", "530|534|535|538", ".*", Refused, "auth_required"),
    # Only a recipient with a non-ASCII local part makes us ask for SMTPUTF8 (RFC 6531, 3.5; X.6.7, X.6.9).
    ("mail|rcpt|data|dot", "5..", "5.6.[79]", Bounced, "smtputf8_not_supported"),
    # X.7.z is policy and security: ours, but for lists and mailboxes that changed hands (X.7.2, X.7.17,
    # X.7.18). Postfix says what it thinks of client and sender at RCPT, hence not at MAIL alone.
    ("rcpt|data|dot", "5..", "5.7.(2|17|18)", Bounced, "recipient_refused"),
    ("mail|rcpt|data|dot", "5..", "5.7..*", Refused, "policy_refused"),
    # X.4.5, congestion, is what large providers answer when an account has used up its day.
    ("mail|rcpt|data|dot", "5..", "5.4.5", Refused, "sending_limit_reached"),
    # X.1.7 and X.1.8 speak of the sender's address, at RCPT too.
    ("mail|rcpt|data|dot", "5..", "5.1.[78]", Refused, "sender_refused"),
    # All our mails are of one size, so a limit announced at MAIL is met by every one of them (RFC 1870, 6.1).
    ("mail", "552", ".*", Refused, "message_too_large"),
    ("mail", "5..", ".*", Refused, "sender_refused"),
    # 552 to RCPT is to be taken as 452 (RFC 5321, 4.5.3.1.10) ...
    ("rcpt", "552", ".*", Delayed, "mailbox_full"),
    ("rcpt", "500|502|503|504", ".*", Refused, "command_refused"),
    ("rcpt", "5..", ".*", Bounced, "recipient_refused"),
    ("data", "5..", "5.[12]..*", Bounced, "recipient_refused"),
    ("data", "5..", ".*", Refused, "command_refused"),
    # ... but 552 to the dot is permanent as any 5yz is (4.2.1): whoever has room again signs up again.
    ("dot", "5..", "5.(3.4|2.3)", Bounced, "message_too_large"),
    ("dot", "5..", "5.2.2", Bounced, "mailbox_full"),
    ("dot", "552", "-", Bounced, "mailbox_full"),
    ("dot", "5..", "5.[12]..*", Bounced, "recipient_refused"),
    ("dot", "5..", ".*", Bounced, "message_refused"),
)


def classify(stage: Stage, code: int, enhanced: str | None) -> tuple[_Verdict, Reason]:
    """Say what a reply that is not the hoped-for one means for the mail.

    Args:
        stage: What the reply answers.
        code: The three digits.
        enhanced: The enhanced status code such as "5.1.1", or None. Ignored when it contradicts `code`.

    Returns:
        The kind of outcome and its reason; "protocol_error" for what fits nowhere, such as 2yz to DATA.
    """
    if enhanced is None or enhanced[:1] != str(code)[:1]:
        enhanced = "-"
    for stages, codes, statuses, verdict, reason in _TABLE:
        if (
            re.fullmatch(stages, stage)
            and re.fullmatch(codes, str(code))
            and re.fullmatch(statuses, enhanced)
        ):
            return verdict, reason
    return Delayed, "protocol_error"
