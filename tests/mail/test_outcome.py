from __future__ import annotations

from typing import get_args

import pytest

from regsvc.mail.outcome import Bounced, Delayed, Reason, Refused, Stage
from regsvc.mail.smtp.replies import classify

Verdict = type[Delayed] | type[Bounced] | type[Refused]


@pytest.mark.parametrize(
    ("stage", "code", "enhanced", "verdict", "reason"),
    [
        ("greeting", 421, None, Delayed, "service_unavailable"),
        ("greeting", 554, None, Refused, "session_refused"),
        ("ehlo", 521, None, Refused, "session_refused"),
        ("starttls", 454, "4.7.0", Delayed, "temporary_failure"),
        ("starttls", 501, None, Refused, "starttls_refused"),
        ("auth", 535, "5.7.8", Refused, "auth_failed"),
        ("auth", 534, "5.7.9", Refused, "auth_failed"),
        ("auth", 454, "4.7.0", Delayed, "auth_unavailable"),
        ("mail", 530, "5.7.0", Refused, "auth_required"),
        ("mail", 550, None, Refused, "sender_refused"),
        ("mail", 553, "5.1.8", Refused, "sender_refused"),
        ("mail", 552, "5.3.4", Refused, "message_too_large"),
        ("mail", 451, None, Delayed, "temporary_failure"),
        ("mail", 553, "5.6.7", Bounced, "smtputf8_not_supported"),
        ("rcpt", 550, None, Bounced, "recipient_refused"),
        ("rcpt", 550, "5.1.1", Bounced, "recipient_refused"),
        ("rcpt", 556, "5.1.10", Bounced, "recipient_refused"),
        ("rcpt", 554, "5.7.1", Refused, "policy_refused"),
        ("rcpt", 550, "5.7.18", Bounced, "recipient_refused"),
        ("rcpt", 550, "5.1.8", Refused, "sender_refused"),
        ("rcpt", 530, None, Refused, "auth_required"),
        ("rcpt", 503, "5.5.1", Refused, "command_refused"),
        ("rcpt", 552, "5.2.2", Delayed, "mailbox_full"),
        ("rcpt", 452, "4.2.2", Delayed, "mailbox_full"),
        ("rcpt", 450, "4.2.1", Delayed, "mailbox_busy"),
        ("rcpt", 450, "5.1.1", Delayed, "mailbox_busy"),
        ("data", 550, "5.4.5", Refused, "sending_limit_reached"),
        ("data", 554, None, Refused, "command_refused"),
        ("data", 550, "5.1.1", Bounced, "recipient_refused"),
        ("data", 250, None, Delayed, "protocol_error"),
        ("dot", 554, None, Bounced, "message_refused"),
        ("dot", 554, "5.6.0", Bounced, "message_refused"),
        ("dot", 550, "5.7.26", Refused, "policy_refused"),
        ("dot", 552, None, Bounced, "mailbox_full"),
        ("dot", 552, "5.2.2", Bounced, "mailbox_full"),
        ("dot", 552, "5.3.4", Bounced, "message_too_large"),
        ("dot", 550, "5.1.1", Bounced, "recipient_refused"),
        ("dot", 421, "4.3.2", Delayed, "service_unavailable"),
        ("dot", 354, None, Delayed, "protocol_error"),
        ("rset", 500, None, Delayed, "protocol_error"),
    ],
)
def test_a_bad_reply_means(
    stage: Stage, code: int, enhanced: str | None, verdict: Verdict, reason: Reason
) -> None:
    """Each kind of reply blames the moment, the recipient, or us, as the table says."""
    assert classify(stage, code, enhanced) == (verdict, reason)


def test_every_reply_means_something() -> None:
    """No stage, code or enhanced code, however odd, is without an answer."""
    stages, reasons = get_args(Stage), get_args(Reason)
    for stage in stages:
        for code in range(200, 600):
            for enhanced in (None, f"{code // 100}.7.1", f"{code // 100}.255.255", "9.9.9"):
                verdict, reason = classify(stage, code, enhanced)
                assert verdict in {Delayed, Bounced, Refused}
                assert reason in reasons


def test_a_temporary_reply_never_ends_a_mail() -> None:
    """4yz is Delayed at every stage, whatever the enhanced code says."""
    for stage in get_args(Stage):
        for code in range(400, 500):
            for enhanced in (None, "5.1.1", "4.7.1", "5.7.1"):
                assert classify(stage, code, enhanced)[0] is Delayed
