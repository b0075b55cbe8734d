from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regsvc.mail.envelope import Envelope
from regsvc.mail.outcome import Bounced, Refused
from regsvc.mail.smtp.dialogue import (
    MAX_REPLY_LINE,
    MAX_REPLY_LINES,
    GarbledReplyError,
    Reply,
    ReplyReader,
    Transaction,
    plan,
    read_extensions,
)


def read_all(octets: bytes) -> list[Reply]:
    reader = ReplyReader()
    reader.feed(octets)
    return list(iter(reader.next_reply, None))


@given(st.data())
def test_replies_are_the_same_however_they_are_cut(data: st.DataObject) -> None:
    """Replies arrive in any pieces: none is lost, merged or made early."""
    whole = b"250-one\r\n250 2.0.0 two\r\n550 5.1.1 no\r\n354\r\n220 lf only\n"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    reader, replies = ReplyReader(), list[Reply]()
    for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
        reader.feed(whole[start:end])
        replies.extend(iter(reader.next_reply, None))
    assert replies == [
        Reply(250, ("one", "2.0.0 two")),
        Reply(550, ("5.1.1 no",)),
        Reply(354, ("",)),
        Reply(220, ("lf only",)),
    ]
    assert not reader.pending


@pytest.mark.parametrize(
    "octets",
    [
        b"hello\r\n",
        b"\r\n",
        b"25 ok\r\n",
        b"2500 ok\r\n",
        b"250_ok\r\n",
        b"150 ok\r\n",
        b"650 ok\r\n",
        b"\xff\xfe\r\n",
        b"HTTP/1.1 400 Bad Request\r\n",
        b"250-a\r\n550 b\r\n",
        b"250-a\r\nb\r\n",
        b"250 " + b"x" * MAX_REPLY_LINE + b"\r\n",
        b"x" * (MAX_REPLY_LINE + 1),
        b"250-x\r\n" * (MAX_REPLY_LINES + 1),
    ],
)
def test_what_is_no_reply_is_not_taken_for_one(octets: bytes) -> None:
    """Garbage and replies without bounds are told apart from replies that are still on their way."""
    with pytest.raises(GarbledReplyError):
        read_all(octets)


@given(st.binary())
def test_no_bytes_raise_anything_else(octets: bytes) -> None:
    """Whatever a server sends is a reply, or garbled, or not whole."""
    try:
        replies = read_all(octets)
    except GarbledReplyError:
        return
    assert all(str(reply).isprintable() and str(reply).isascii() for reply in replies)


def test_text_that_is_not_ascii_does_not_spoil_a_reply() -> None:
    """The code decides; what cannot be shown safely is shown as a question mark."""
    (reply,) = read_all(b"250 2.0.0 Stra\xdfe \xe2\x9c\x93 \x1b[31m\x00\r\n")
    assert str(reply) == "250 2.0.0 Stra?e ??? ?[31m?"


@pytest.mark.parametrize(
    ("text", "enhanced"),
    [("5.1.1 no", "5.1.1"), ("5.7.999", "5.7.999"), ("no 5.1.1", None), ("5.1", None), ("5.1.1.1 no", None)],
)
def test_an_enhanced_code_stands_at_the_start(text: str, enhanced: str | None) -> None:
    """Only RFC 2034's place counts."""
    assert Reply(550, (text,)).enhanced == enhanced


def test_a_long_reply_is_cut_for_keeping() -> None:
    """A hundred lines do not end up in a row or log."""
    assert len(str(Reply(250, ("x" * 2000,) * 100))) == 500


def test_extensions_are_read_whatever_their_case() -> None:
    """The first line is the server's name, keywords are case-insensitive, parameters are kept."""
    reply = Reply(250, ("SIZE.example hello", "pipelining", "Size 1000", "AUTH PLAIN LOGIN"))
    assert read_extensions(reply) == {"PIPELINING": "", "SIZE": "1000", "AUTH": "PLAIN LOGIN"}


EIGHT_BIT = (
    b"Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Content-Transfer-Encoding: 8bit\r\n\r\n" + "grüß\r\n.dich\r\n".encode()
)


def planned(recipient: str, data: bytes, *extensions: str) -> Transaction:
    offered = dict.fromkeys(extensions, "")
    transaction = plan(Envelope("a@example.org", recipient, data), offered)
    assert isinstance(transaction, Transaction)
    return transaction


def test_only_what_is_offered_is_asked_for() -> None:
    """A server without extensions gets plain RFC 821 commands."""
    assert planned("b@bücher.example", b"x\r\n").commands == (
        ("mail", b"MAIL FROM:<a@example.org>\r\n"),
        ("rcpt", b"RCPT TO:<b@xn--bcher-kva.example>\r\n"),
        ("data", b"DATA\r\n"),
    )


def test_everything_that_is_needed_and_offered_is_asked_for() -> None:
    """8BITMIME for 8-bit content, SMTPUTF8 for a local part, SIZE whenever it is offered."""
    offered = ("8BITMIME", "SMTPUTF8", "SIZE")
    mail, rcpt, _ = planned("jané@example.net", EIGHT_BIT, *offered).commands
    assert mail[1] == f"MAIL FROM:<a@example.org> SMTPUTF8 BODY=8BITMIME SIZE={len(EIGHT_BIT)}\r\n".encode()
    assert rcpt[1] == "RCPT TO:<jané@example.net>\r\n".encode()
    mail, _, _ = planned("b@example.net", EIGHT_BIT, *offered).commands
    assert b"SMTPUTF8" not in mail[1]
    assert b"BODY=8BITMIME" in mail[1]


def test_eight_bits_for_an_ascii_address_are_a_bug() -> None:
    """Mails are written in 7 bits, so that no relay without 8BITMIME rewrites what is signed."""
    with pytest.raises(ValueError, match="not 7-bit"):
        planned("b@example.net", EIGHT_BIT, "SIZE")


@pytest.mark.parametrize(
    ("lines", "mechanisms"),
    [
        (("AUTH PLAIN LOGIN",), "PLAIN LOGIN"),
        (("AUTH=LOGIN PLAIN",), "LOGIN PLAIN"),
        (("AUTH PLAIN", "AUTH=PLAIN LOGIN"), "PLAIN LOGIN"),
        (("auth\tplain\tlogin",), "plain login"),
        (("AUTH=LOGIN",), "LOGIN"),
    ],
)
def test_what_a_server_offers_for_logging_in_is_read_in_both_forms(
    lines: tuple[str, ...], mechanisms: str
) -> None:
    assert read_extensions(Reply(250, ("mx.example.org", *lines)))["AUTH"] == mechanisms


def test_what_the_server_can_never_take_is_known_beforehand() -> None:
    """A non-ASCII local part without SMTPUTF8, an address that is none, a size beyond the limit."""
    data = b"x" * 98 + b"\r\n"
    assert plan(Envelope("a@example.org", "jané@example.net", data), {"8BITMIME": ""}) == Bounced(
        "smtputf8_not_supported", "rcpt"
    )
    assert plan(Envelope("a@example.org", "b>@example.net", data), {}) == Bounced("recipient_invalid", "rcpt")
    refused = plan(Envelope("a@example.org", "b@example.net", data), {"SIZE": "99"})
    assert isinstance(refused, Refused)
    assert (refused.reason, refused.stage) == ("message_too_large", "mail")
    for limit in ("100", "0", "", "many"):
        assert isinstance(
            plan(Envelope("a@example.org", "b@example.net", data), {"SIZE": limit}), Transaction
        )
