"""What an operator is told about a refusal that is about us."""

from __future__ import annotations

import pytest

from regsvc.mail.queue.remedies import find_remedy


@pytest.mark.parametrize(
    ("reply", "word"),
    [
        pytest.param(
            "550 5.1.90 Your message can't be sent because you've reached your daily limit", "tomorrow"
        ),
        pytest.param("554 5.2.252 SendAsDenied; the sender may not send as", "Send As"),
        pytest.param("550-5.7.26 This mail has been blocked because the sender is unauthenticated", "SPF"),
        pytest.param("550 5.7.30 Basic authentication is not supported for Client Submission", "xoauth2"),
        pytest.param("550 5.7.515 Access denied, sending domain doesn't meet the required level", "DMARC"),
        pytest.param("550 5.4.5 Daily user sending limit exceeded", "second route"),
        pytest.param("554 Message rejected: Email address is not verified", "Verify"),
    ],
    ids=["5.1.90", "5.2.252", "5.7.26", "5.7.30", "5.7.515", "5.4.5", "unverified"],
)
def test_a_known_refusal_has_its_remedy(reply: str, word: str) -> None:
    remedy = find_remedy("policy_refused", reply)
    assert remedy is not None
    assert word in remedy


def test_a_failed_connection_has_none() -> None:
    assert find_remedy("connect_failed", "[Errno 111] Connection refused") is None
