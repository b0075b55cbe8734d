from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regsvc.mail.envelope import Envelope, stuff_dots
from regsvc.mail.mailbox import UnusableAddressError, read_mailbox


@pytest.mark.parametrize(
    "data",
    [
        b"a\nb\r\n",
        b"a\rb\r\n",
        b"a\r\n\n\r\n",
        b"a\r\r\n",
        b"a",
        b"",
        b"a\0b\r\n",
        b"x" * 999 + b"\r\n",
    ],
)
def test_a_message_that_could_be_misread_is_a_bug(data: bytes) -> None:
    """Bare CR or LF, a NUL, an unended or overlong line never get as far as a transport."""
    with pytest.raises(ValueError, match="message"):
        Envelope("a@example.org", "b@example.net", data)


def test_the_longest_line_that_is_allowed_is_taken() -> None:
    """998 octets and CRLF are within RFC 5322."""
    assert Envelope("a@example.org", "b@example.net", b"x" * 998 + b"\r\n").data


@pytest.mark.parametrize(
    ("address", "travels"),
    [
        ("jane@example.net", "jane@example.net"),
        ("o'neill+tag@example.net", "o'neill+tag@example.net"),
        ("jane@bücher.example", "jane@xn--bcher-kva.example"),
        ("jané@例え.テスト", "jané@xn--r8jz45g.xn--zckzah"),
        ("jane@localhost", "jane@localhost"),
        ("Jane@EXAMPLE.net", "Jane@example.net"),
        ("jane@straße.example", "jane@xn--strae-oqa.example"),
        ("jane..doe@docomo.ne.jp", '"jane..doe"@docomo.ne.jp'),
        ("jane.@ezweb.ne.jp", '"jane."@ezweb.ne.jp'),
    ],
)
def test_an_address_travels_with_its_domain_in_ascii(address: str, travels: str) -> None:
    """The domain becomes lower-case A-labels; the local part stays as it is, quoted if its dots need that."""
    assert read_mailbox(address).wire == travels


@pytest.mark.parametrize(
    "address",
    [
        "",
        "jane",
        "@example.net",
        "jane@",
        "ja ne@example.net",
        "jane>@example.net",
        "jane@example.net>",
        "jane\r\nRCPT TO:<x@example.net",
        "jane\u2028@example.net",
        "jane@exa mple.net",
        "jane@example..net",
        "jane@[127.0.0.1]",
        '"jane"@example.net',
        "jane,john@example.net",
        "jane@example.net\n",
        "j\ud800@example.net",
    ],
)
def test_an_address_that_could_end_its_command_is_refused(address: str) -> None:
    """Nothing that means something to SMTP or to a header may stand in an address."""
    with pytest.raises(UnusableAddressError) as caught:
        read_mailbox(address)
    assert address == "" or address not in str(caught.value)


@given(st.text())
def test_no_address_brings_a_line_end_or_bracket(address: str) -> None:
    """Whatever is refused or not, what travels is one word between brackets."""
    try:
        travels = read_mailbox(address).wire
    except UnusableAddressError:
        return
    assert not set(travels) & set("\r\n\0 <>")


@given(st.lists(st.text(alphabet="a.\r", max_size=4).filter(lambda line: "\r" not in line)))
def test_dot_stuffing_leaves_no_lone_dot_and_can_be_undone(lines: list[str]) -> None:
    """A server that takes away one leading dot of each line gets the message back, and never sees the end early."""
    data = "".join(f"{line}\r\n" for line in lines).encode()
    stuffed = stuff_dots(data).split(b"\r\n")
    assert b"." not in stuffed
    assert b"\r\n".join(line.removeprefix(b".") for line in stuffed) == data
