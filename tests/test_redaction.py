"""What looks like a secret or an address never reaches a log line."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regsvc.logs.redaction import Redactor, client_prefix, mask_email, redact_text, reveal

TOKEN = "Jx3kQ9_vB2mZ7-LpWq8RtYcD5nHfGs1aUeKoXiTb4E0"
JWT = "eyJhbGciOiJFZERTQSIsInR5cCI6ImF0K2p3dCJ9.eyJzdWIiOiIxIn0.c2ln"
BCRYPT = "$2b$12$C6UzMDM.H6dfI/f/IKcEeO7ZBeWQ6cB1Fz1p3x1mY3bYb3n0O9x2K"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("to test@example.com now", "to t***@example.com now"),
        ("Key (email)=(test@example.com) already exists.", "Key (email)=(t***@example.com) already exists."),
        ("RCPT TO:<test@mail.example.com>", "RCPT TO:<t***@mail.example.com>"),
        ("to 'test@example.com', 'other@example.com'", "to 't***@example.com', 'o***@example.com'"),
        ("/resend?email=test%40example.com", "/resend?email=t***%40example.com"),
        ("päivi@exämple.com", "p***@exämple.com"),
        ("a+b@localhost", "a***@localhost"),
        ("amqp://guest:guest@rabbitmq:5672/", "amqp://***@rabbitmq:5672/"),
        ("smtp://test@example.com:p@ss/w@mail:587", "smtp://***@mail:587"),
        ("host=db password=correct-horse user=x", "host=db password=*** user=x"),
        ("{'password': 'correct horse', 'n': 1}", "{'password': ***, 'n': 1}"),
        ('{"token":"abc","n":1}', '{"token":***,"n":1}'),
        ("Authorization: Bearer abc.def", "Authorization: ***"),
        ("Regsvc-Handle: abc", "Regsvc-Handle: ***"),
        ("http://localhost/confirm#t=abc.def~x", "http://localhost/confirm#t=***"),
        ("?token=abc&x=1", "?token=***&x=1"),
        ("code: 123456", "code: ***"),
        ('"code": "123456"', '"code": "***"'),
        (f"got {TOKEN}.", "got ***."),
        (f"got {TOKEN[:22]}.{TOKEN[22:]} there", "got *** there"),
        (f"<{JWT}>", "<***>"),
        (f"Failing row contains (1, {BCRYPT}).", "Failing row contains (1, ***)."),
        ("cGFzc3dvcmQxMjMgcGFzc3dvcmQxMjMgcGFzc3dvcmQx/+==", "***"),
        (f"sha256 {'0a' * 32}", "sha256 ***"),
    ],
)
def test_secrets_and_addresses_in_a_text_are_masked(text: str, shown: str) -> None:
    assert redact_text(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "child restarted",
        "token expired",
        "exit code: 1",
        "SQLSTATE code 23505",
        "no such host: mail.example.com",
        "4f9f3c1e-6f0e-4c55-9a52-0d5f8f1b7a61",
        "  @app.route('/')",
        '  File "/opt/regsvc/lib/python3.11/site-packages/trio/_core/_run.py", line 12, in run',
        "test_a_wrong_handle_is_answered_like_an_unknown_registration",
        "2026-11-22T10:01:10.499Z",
    ],
)
def test_what_an_operator_needs_stays_readable(text: str) -> None:
    assert redact_text(text) == text


def test_fields_named_like_secrets_are_masked_whatever_they_hold() -> None:
    shown = Redactor().event(
        {
            "event": "x",
            "password": 12345678,
            "new_password": "a b",
            "Regsvc-Handle": "h",
            "access_token": None,
            "code": "123456",
            "secret_key": b"k",
            "status_code": 200,
            "nested": {"token": "t", "list": [{"cookie": "c"}, "a@b.c"]},
        }
    )
    assert shown == {
        "event": "x",
        "password": "***",
        "new_password": "***",
        "Regsvc-Handle": "***",
        "access_token": "***",
        "code": "***",
        "secret_key": "***",
        "status_code": 200,
        "nested": {"token": "***", "list": [{"cookie": "***"}, "a***@b.c"]},
    }


def test_known_secrets_are_masked_within_any_text() -> None:
    redactor = Redactor(["correct-horse", "guest", "correct-horse-battery"])
    assert redactor.text("a correct-horse-battery and guests") == "a *** and guests"


def test_other_objects_are_shown_by_their_masked_text() -> None:
    mail = uuid.uuid4()
    shown = Redactor().event({"mail": mail, "error": ValueError("for a@b.c")})
    assert shown == {"mail": str(mail), "error": "for a***@b.c"}


def test_only_what_is_revealed_on_purpose_is_shown() -> None:
    link = f"http://localhost:8080/confirm#t={TOKEN}"
    shown = Redactor().event({"link": reveal(link), "code": reveal("123456"), "other": repr(reveal(link))})
    assert shown == {"link": link, "code": "123456", "other": "Revealed(***)"}


def test_a_text_without_end_is_cut_and_costs_no_more() -> None:
    for piece in ("a", "@", "a@", "eyJ", "://", "a-", "A", "password", "=password=", "code ", ".", "1."):
        assert len(Redactor().text(piece * 1_000_000)) < 200_000


@given(st.emails(), st.text(" :=<>'\"(,", max_size=2), st.text(max_size=5))
def test_no_address_survives(address: str, before: str, after: str) -> None:
    local, _, domain = address.rpartition("@")
    if len(local) > 1:
        assert address not in redact_text(f"{before}{address} {after}")
    assert mask_email(address) == f"{local[0]}***@{domain}"


@given(st.binary(min_size=32, max_size=64), st.sampled_from(["", " ", "=", "/", "'", "token "]))
def test_no_random_token_survives(data: bytes, before: str) -> None:
    assert data.hex() not in redact_text(f"{before}{data.hex()}")


def test_a_client_is_shown_by_its_network() -> None:
    assert client_prefix("203.0.113.77") == "203.0.113.0/24"
    assert client_prefix("::ffff:203.0.113.77") == "203.0.113.0/24"
    assert client_prefix("2001:db8:1:2:3:4:5:6") == "2001:db8:1::/48"
    assert client_prefix("fe80::1%eth0") == "fe80::/48"
    assert client_prefix("@") == "unknown"
    assert mask_email("nonsense") == "***"
