"""An account belongs to exactly the mailbox that its mail goes to."""

# ruff: noqa: RUF001, RUF003 - characters that are taken for others are what this is about

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Callable

import idna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regsvc.accounts.address import (
    Address,
    AddressError,
    find_key_prefixes,
    parse_address,
    strip_tag,
    to_address,
    trim_address,
)
from regsvc.mail.mailbox import read_mailbox

LAST = 0x2FFFF
_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}


def characters() -> list[str]:
    return [char for char in map(chr, range(LAST + 1)) if unicodedata.category(char) != "Cs"]


def find_shared(place: Callable[[str], str]) -> list[list[str]]:
    """Return the characters that share a key with others where they stand in an address.

    Many are tried at once. If all of them stand in the key as they are, then each has a key of its own.
    """
    chars, groups = characters(), defaultdict(list)
    for start in range(0, len(chars), 12):
        group = "".join(chars[start : start + 12])
        whole = show_key(place(group)) == place(group)
        for char in group:
            key = place(char) if whole else show_key(place(char))
            if key is not None:
                groups[key].append(char)
    assert sum(map(len, groups.values())) > 100_000
    return [group for group in groups.values() if len(group) > 1]


def show_key(typed: str) -> str | None:
    """Return the key of an address with its domain as U-labels, or None where it is no address."""
    try:
        local, _, domain = parse_address(typed).key.partition("@")
    except AddressError:
        return None
    return f"{local}@{idna.decode(domain)}"


def fold_custom(text: str) -> str:
    """Fold what every mail system in use takes for one: ASCII case, and the forms of one character."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).translate(_LOWER))


def test_no_two_characters_of_a_local_part_share_a_key_but_for_ascii_case_and_nfc() -> None:
    """All characters up to U+2FFFF."""
    shared = find_shared(lambda text: f"a{text}b@x.example")
    assert [group for group in shared if len({fold_custom(char) for char in group}) > 1] == []
    assert ["K", "k", "\u212a"] in [sorted(group) for group in shared]


def test_no_two_characters_of_a_domain_share_a_key_but_for_those_that_are_one_in_dns() -> None:
    """All characters up to U+2FFFF."""
    shared = find_shared(lambda text: f"x@a{text}b.example")
    assert [group for group in shared if len({idna.uts46_remap(f"a{char}b") for char in group}) > 1] == []
    alike = {char: group for group in shared for char in group}
    assert {"A", "a", "\uff41", "\u1d43"} <= set(alike["a"])
    assert "ß" not in alike["s"]
    assert "ς" not in alike["σ"]


CONFUSABLE = [
    ("ann@großbank.example", "ann@grossbank.example"),
    ("ann@βόλος.example", "ann@βόλοσ.example"),
    ("ann@نامه\u200cای.example", "ann@نامهای.example"),
    ("ann@क्\u200dष.example", "ann@क्ष.example"),
    ("ann@ä.example", "ann@a.example"),
    ("ann@xn--grobank-2va.example", "ann@grossbank.example"),
    ("ann@аpple.example", "ann@apple.example"),  # Cyrillic а
    ("straße@example.com", "strasse@example.com"),
    ("straſse@example.com", "strasse@example.com"),
    ("ﬁn@example.com", "fin@example.com"),
    ("ann①@example.com", "ann1@example.com"),
    ("ａnn@example.com", "ann@example.com"),
    ("Ünal@example.com", "ünal@example.com"),
    ("İpek@example.com", "i\u0307pek@example.com"),
    ("İpek@example.com", "ipek@example.com"),
    ("ıpek@example.com", "ipek@example.com"),
    ("ΣΑΣ@example.com", "σας@example.com"),
    ("σασ@example.com", "σας@example.com"),
    ("ŉa@example.com", "ʼna@example.com"),
    ("ann.b@example.com", "annb@example.com"),
    ("ann+b@example.com", "ann@example.com"),
    ("ann@example.com", "ann@mail.example.com"),
    ("foo..bar@docomo.ne.jp", "foo.bar@docomo.ne.jp"),
    ("foo.@docomo.ne.jp", "foo@docomo.ne.jp"),
]


@pytest.mark.parametrize(("one", "other"), CONFUSABLE)
def test_a_confusable_address_is_another_account(one: str, other: str) -> None:
    assert parse_address(one).key != parse_address(other).key
    assert read_mailbox(parse_address(one).email).wire != read_mailbox(parse_address(other).email).wire


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Ann@Example.COM", "ann@example.com"),
        ("\u212bnn@example.com", "A\u030ann@example.com"),
        ("\u212bnn@example.com", "Ånn@example.com"),
        ("H\u0331a@example.com", "\u1e96a@example.com"),  # the small letter composes, the capital does not
        ("ann@GROẞBANK.example", "ann@xn--grobank-2va.example"),
        ("ann@großbank.example", "ann@XN--GROBANK-2VA.example"),
        ("ann@ｂücher。example", "ann@bu\u0308cher.example"),
        ("ann@example.com.", "ann@example.com"),
    ],
)
def test_spellings_of_one_mailbox_are_one_account(one: str, other: str) -> None:
    assert parse_address(one).key == parse_address(other).key


@given(st.text(max_size=12), st.text(max_size=12))
def test_mail_goes_to_the_mailbox_of_the_key(local: str, domain: str) -> None:
    """Whatever was typed, the key is the recipient but for ASCII case and NFC; a stored address stays what it is."""
    try:
        address = parse_address(f"{local}@{domain}.example")
    except AddressError:
        return
    mailbox = read_mailbox(address.email)
    assert address.key == f"{fold_custom(mailbox.local)}@{mailbox.domain}"
    assert mailbox.wire.replace('"', "") == f"{mailbox.local}@{mailbox.domain}"
    assert parse_address(address.email) == to_address(address.email) == address


AROUND = [
    *" \t\n\r\u00a0\u1680\u2003\u2028\u202f\u3000",
    *"\u200b\u200c\u200d\u200e\u200f\u202a\u202c\u2060\u2066\u2069\ufeff\u00ad",
]


@pytest.mark.parametrize("char", AROUND, ids=lambda char: f"U+{ord(char):04X}")
def test_spaces_and_invisible_characters_around_an_address_are_no_part_of_it(char: str) -> None:
    for typed in (f"ann@example.com{char}", f"{char}ann@example.com", f"{char}{char}ann@example.com{char} "):
        assert parse_address(typed) == Address("ann@example.com", "ann@example.com")


@pytest.mark.parametrize(
    "typed",
    [
        "mailto:ann@example.com",
        "MAILTO: ann@example.com",
        "<ann@example.com>",
        " < ann@example.com > ",
        "<mailto:ann@example.com>",
        "mailto:<ann@example.com>",
        "ann@example.com.",
        "ann@example.com. ",
        "ann@example.com。",
        "<ann@example.com.>",
        "<ann@example.com>.",
    ],
)
def test_what_forms_add_around_an_address_is_no_part_of_it(typed: str) -> None:
    assert parse_address(typed).email == "ann@example.com"
    assert "ann@example.com" in find_key_prefixes(typed)


def test_the_beginning_of_an_address_keeps_its_dot() -> None:
    assert find_key_prefixes(" ann. ") == ["ann."]


@pytest.mark.parametrize(
    "typed",
    [
        "",
        " ",
        "<>",
        "mailto:",
        "ann",
        "ann@",
        "@example.com",
        "ann@example.com..",
        "ann @example.com",
        "ann@ example.com",
        "an\u200bn@example.com",
        "a\u200dnn@example.com",
        "ann@exam\u200dple.com",
        "ann@exam\u00adple.com",
        "ann@श्री\u200d.com",
        "<ann@example.com",
        "ann@example.com>",
        "<<ann@example.com>>x",
        "Ann <ann@example.com>",
        "ann@example.com,bob@example.com",
        "ann@example.com\r\nBcc: bob@example.com",
        "=?utf-8?q?ann?=@example.com",
        '"ann"@example.com',
        "ann@[127.0.0.1]",
        "ann@1.2.3.4",
        "ann@b_c.example",
        "ann@-b.example",
        "ann@ab--c.example",
        "ann@xn--a.example",
        "ann@1.אב.example",
        "ann@corp.local",
        "ann@intranet",
        "ann@x.invalid",
        ".foo@docomo.ne.jp",
        "foo..bar@example.com",
        "foo.@example.com",
        "foo..bar@notdocomo.ne.jp",
        "ann;@example.com",
        "ann\u037e@example.com",
        "a" * 65 + "@example.com",
        "ann@" + "a" * 64 + ".example",
        "ann@" + "a." * 130 + "example",
        "ä" * 60 + "@" + "ü" * 40 + "." + "ü" * 40 + ".example",
    ],
)
def test_what_is_no_address_is_refused(typed: str) -> None:
    with pytest.raises(AddressError):
        parse_address(typed)


@pytest.mark.parametrize(
    ("typed", "wire"),
    [
        ("foo..bar@docomo.ne.jp", '"foo..bar"@docomo.ne.jp'),
        ("foo.@mb.ezweb.ne.jp", '"foo."@mb.ezweb.ne.jp'),
        ("foo...@docomo.ne.jp", '"foo..."@docomo.ne.jp'),
        ("ann@نامه\u200cای.com", "ann@xn--mgba3gch31f060k.com"),
    ],
)
def test_odd_addresses_that_people_have(typed: str, wire: str) -> None:
    """Carriers gave out what RFC 5321 has to quote, and joiners belong to some scripts (RFC 5892, appendix A)."""
    assert read_mailbox(parse_address(typed).email).wire == wire


def test_domains_of_an_intranet_are_taken_where_the_operator_lists_them() -> None:
    listed = ["corp.local", "*.corp.local", "intranet"]
    for typed in ("ann@corp.local", "ann@mail.Corp.Local", "ann@intranet"):
        assert parse_address(typed, listed).email == typed.lower()
    for typed in ("ann@xcorp.local", "ann@other", "ann@[10.0.0.1]"):
        with pytest.raises(AddressError):
            parse_address(typed, listed)


def test_trimming_leaves_what_is_inside() -> None:
    assert trim_address(" <a b@c\u200b.d> ") == "a b@c\u200b.d"


@pytest.mark.parametrize(
    ("email", "key"),
    [
        ("victim+1@example.com", "victim@example.com"),
        ("Victim+a+b@example.com", "victim@example.com"),
        ("victim@example.com", "victim@example.com"),
        ("+a@example.com", "+a@example.com"),
    ],
)
def test_a_tag_is_left_out_where_limits_count(email: str, key: str) -> None:
    assert strip_tag(parse_address(email).key) == key
