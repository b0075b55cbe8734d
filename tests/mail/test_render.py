from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from email import message_from_bytes, policy
from email.header import decode_header, make_header
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import parseaddr
from functools import cache
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from regsvc.mail.envelope import Envelope
from regsvc.mail.mailbox import UnusableAddressError
from regsvc.mail.message.kinds import (
    ACCOUNT_KINDS,
    AttemptMail,
    EmailChangeMail,
    LinkedMail,
    SecurityChangedMail,
    WarningMail,
)
from regsvc.mail.message.render import AccountExistsMail, ConfirmMail, LegacyConfirmMail, Mail, Renderer
from regsvc.mail.message.values import clean
from regsvc.mail.smtp.dialogue import Transaction, plan

if TYPE_CHECKING:
    from pathlib import Path

TOKEN = "Aa0._~-" * 12
NOW = datetime(2026, 11, 22, 10, 17, 13, tzinfo=UTC)
MAIL_ID = UUID("0193a5d4-4b5e-7cc0-9d5c-3a1f6a2b7c8d")
SENDER = Address(addr_spec="no-reply@example.org")
CONFIRM = ConfirmMail(
    link=f"https://acme.example/confirm#t={TOKEN}",
    code="042137",
    not_me_link=f"https://acme.example/not-me#t={TOKEN}",
    occurred_at=datetime(2026, 11, 22, 23, 5, tzinfo=timezone(timedelta(hours=-2))),
    origin="203.0.113.0/24",
    client="Firefox 128.0 on Linux",
)
EXISTS = AccountExistsMail(occurred_at=NOW, origin="2001:db8:1::/48", client="")
LONGEST_HOST = ".".join(["acme" * 15] * 4)[:240] + ".example"
FOREIGN = LegacyConfirmMail(link=f"https://{LONGEST_HOST}:65535/confirm#t={'t' * 512}")
HEADERS = {
    "Date",
    "To",
    "Message-ID",
    "X-Regsvc-Mail",
    "From",
    "Subject",
    "Auto-Submitted",
    "X-Auto-Response-Suppress",
    "MIME-Version",
    "Content-Type",
}


@cache
def make_renderer() -> Renderer:
    """Return one renderer for many examples: it reads every language."""
    return Renderer(sender=SENDER, brand="Acme")


def render(mail: Mail = CONFIRM, renderer: Renderer | None = None, **changes: Any) -> bytes:
    renderer = renderer or Renderer(sender=SENDER, brand="Acme")
    arguments = {"mail_id": MAIL_ID, "recipient": "jane@example.net", "locale": "en", "now": NOW, **changes}
    return renderer.render(mail, **arguments)


def parse(data: bytes) -> EmailMessage:
    """Read a mail as its recipient does, and see that it is one mail of ours and nothing else."""
    Envelope("no-reply@example.org", "jane@example.net", data)  # lines and their ends
    message = message_from_bytes(data, EmailMessage, policy=policy.default)
    assert message.defects == []
    assert {*message.keys()} == HEADERS
    assert len(message.keys()) == len(HEADERS)
    assert message.get_content_type() == "multipart/alternative"
    text, html = message.iter_parts()
    assert [part.get_content_type() for part in (text, html)] == ["text/plain", "text/html"]
    assert text.defects == html.defects == []
    return message


def body(message: EmailMessage, kind: str) -> str:
    part = message.get_body((kind,))
    assert part is not None
    return str(part.get_content()).replace("\r\n", "\n")


class Links(HTMLParser):
    """Collects where the links lead and what the reader sees, and sees that every tag is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.links: list[str | None] = []
        self.seen: list[str] = []
        self.tags: set[str] = set()
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag."""
        self.tags.add(tag)
        self.links += [value for name, value in attrs if name in {"href", "src"}]
        if tag not in {"meta", "br", "img"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Note that the innermost tag ends."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Note what stands between tags."""
        self.seen.append(data)


def test_a_confirmation_has_what_a_person_needs() -> None:
    """Link alone on a line, code, when, from where, with what, and the way to take it back."""
    data = render()
    message = parse(data)
    assert message["Date"].datetime == NOW
    assert message["To"] == "jane@example.net"
    assert message["From"] == "Acme <no-reply@example.org>"
    assert message["Message-ID"] == f"<{MAIL_ID}@example.org>"
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Subject"] == "Confirm your email address for Acme"
    lines = body(message, "plain").splitlines()
    assert {CONFIRM.link, CONFIRM.code, CONFIRM.not_me_link} <= {*lines}
    assert "When: 23 November 2026, 01:05 UTC" in lines
    assert "Network: 203.0.113.0/24" in lines
    assert "Browser: Firefox 128.0 on Linux" in lines
    assert re.findall(r"\b[0-9]{6}\b", body(message, "plain")) == [CONFIRM.code]
    assert "24 hours" in body(message, "plain")
    assert f"\r\n{CONFIRM.link}\r\n".encode() in data
    html = Links(body(message, "html"))
    assert html.links == [CONFIRM.link, CONFIRM.link, CONFIRM.not_me_link]
    assert CONFIRM.code in html.seen
    assert html.open == []
    assert not html.tags & {"script", "link", "iframe", "form", "input"}


def test_a_link_of_another_system_is_all_that_its_mail_has() -> None:
    """No code, no way to take it back, no attempt: that system knows of them, and we do not."""
    data = render(FOREIGN)
    message = parse(data)
    text, html = body(message, "plain"), Links(body(message, "html"))
    assert message["Subject"] == "Confirm your email address for Acme"
    assert f"\r\n{FOREIGN.link}\r\n".encode() in data
    assert html.links == [FOREIGN.link, FOREIGN.link]
    assert not re.search(r"\b[0-9]{6}\b", text)
    assert not {"When", "From", "With"} & {line.partition(":")[0] for line in text.splitlines()}
    assert html.open == []


def test_an_owner_learns_of_the_attempt() -> None:
    """The second kind of mail has neither token nor code, and links only where there is a page."""
    message = parse(render(EXISTS))
    text = body(message, "plain")
    assert "Network: 2001:db8:1::/48" in text
    assert "Browser: unknown" in text
    assert "http" not in text
    assert Links(body(message, "html")).links == []
    linked = replace(
        EXISTS, login_link="https://acme.example/login", reset_link="https://acme.example/forgot"
    )
    message = parse(render(linked))
    assert Links(body(message, "html")).links == [linked.login_link, linked.reset_link]
    assert {linked.login_link, linked.reset_link} <= {*body(message, "plain").splitlines()}


@pytest.mark.parametrize("kind", ACCOUNT_KINDS.values(), ids=list(ACCOUNT_KINDS))
def test_a_mail_about_an_account_says_what_happened_and_links_where_it_has_to(
    kind: type[AttemptMail],
) -> None:
    """When, from where and with what; a link alone on a line and how long it works; no placeholder left."""
    happened: dict[str, Any] = {"occurred_at": NOW, "origin": "203.0.113.0/24", "client": "Firefox on Linux"}
    has_link = issubclass(kind, LinkedMail)
    forgot: dict[str, Any] = (
        {"forgot_link": "https://acme.example/forgot"} if issubclass(kind, WarningMail) else {}
    )
    given: dict[str, Any] = (
        {"link": f"https://acme.example/page#t={TOKEN}", "valid_for": 42} if has_link else {}
    )
    about: dict[str, Any] = {}
    if issubclass(kind, EmailChangeMail):
        forgot = {"not_me_link": f"https://acme.example/not-me#t={TOKEN}"}
        about = {"account_email": "ann@example.org", "account_since": NOW}
    if issubclass(kind, SecurityChangedMail):
        about = {"about": "passkey_added"}
    message = parse(render(kind(**happened, **given, **forgot, **about)))
    text = body(message, "plain")
    assert {
        "When: 22 November 2026, 10:17 UTC",
        "Network: 203.0.113.0/24",
        "Browser: Firefox on Linux",
    } <= {*text.splitlines()}
    assert text.splitlines().count(given.get("link", "-")) == (1 if has_link else 0)
    assert ("42" in text) == has_link
    html = Links(body(message, "html"))
    assert html.links == [*[given.get("link")] * 2 * has_link, *forgot.values()]
    assert {*forgot.values()} <= {*text.splitlines()}
    assert html.open == []
    assert not set("{}") & {*text}
    assert "Acme" in message["Subject"]


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("ann@example.com", "a***@e***.com"),
        ("j@mail.example.co.uk", "j***@m***.uk"),
        ('"<b>"@evil.example', "****@e***.example"),
        ("äöü@xn--grobank-bxa.de", "ä***@x***.de"),
        ("a@b", "a***@****.b"),
    ],
)
def test_the_address_of_somebodys_account_is_shown_so_that_its_owner_alone_knows_it_again(
    address: str, shown: str
) -> None:
    mail = EmailChangeMail(
        occurred_at=NOW,
        origin="203.0.113.0/24",
        client="curl",
        link=f"https://acme.example/page#t={TOKEN}",
        valid_for=24,
        account_email=address,
        account_since=NOW,
        not_me_link=f"https://acme.example/not-me#t={TOKEN}",
    )
    text = body(parse(render(mail)), "plain")
    assert (
        f"The account currently has the address {shown} and was created on 22 November 2026, 10:17 UTC."
        in text
    )


def test_both_parts_say_the_same() -> None:
    """Whoever reads the text part misses nothing but colours."""
    for mail in (CONFIRM, EXISTS):
        message = parse(render(mail))
        text = " ".join(body(message, "plain").split())
        for words in Links(body(message, "html")).seen[-12:]:
            told = " ".join(words.split())
            assert told in text or told in {"This was not me", ""}


def test_every_mail_is_of_seven_bits() -> None:
    """A mail in ASCII stays as it is; a brand beyond ASCII has the text encoded, and the HTML stays ASCII."""
    assert b"8bit" not in render()
    renderer = Renderer(
        sender=SENDER, brand="Äcme & Söhne <株>", color="#ffff00", logo="https://a.example/x.png"
    )
    data = render(renderer=renderer)
    message = parse(data)
    text, html = message.iter_parts()
    assert data.isascii()
    assert text["Content-Transfer-Encoding"] == "quoted-printable"
    assert html["Content-Transfer-Encoding"] == "7bit"
    assert message["From"] == '"Äcme & Söhne <株>" <no-reply@example.org>'
    assert message["Subject"].endswith("for Äcme & Söhne <株>")
    assert "to sign up for Äcme & Söhne <株>." in body(message, "plain")
    assert "to sign up for Äcme & Söhne <株>." in "".join(Links(body(message, "html")).seen)
    assert "https://a.example/x.png" in Links(body(message, "html")).links
    assert CONFIRM.link in body(message, "plain").splitlines()


@pytest.mark.parametrize("locale", ["ja", "zh", "de", "tr", "en"])
def test_a_text_of_any_language_comes_through_in_seven_bits(locale: str) -> None:
    """Whatever encodes it, the link is alone on its line and no line is too long (RFC 5322, 2.1.1)."""
    data = Renderer(sender=SENDER, brand="株式会社").render(
        CONFIRM, mail_id=MAIL_ID, recipient="jane@example.net", locale=locale, now=NOW
    )
    assert data.isascii()
    assert max(map(len, data.split(b"\r\n"))) <= 998
    text = body(parse(data), "plain")
    assert CONFIRM.link in text.splitlines()
    assert "株式会社" in text


@pytest.mark.parametrize(
    "name",
    [
        "株式会社" * 12,
        "株式会社 株式会社",
        "Ätherische Öle  Ümläut Gmbh & Co. KG, Abteilung für sehr lange Namen",
        "😀" * 30,
        'Acme "quoted" \\ Inc.',
        "Acme  two spaces",
        "a" * 95,
    ],
)
def test_a_sender_name_comes_through_as_it_is_however_wide(name: str) -> None:
    """Encoded words are split without adding white space, each of 75 characters at most (RFC 2047, 2)."""
    data = render(renderer=Renderer(sender=Address(name, addr_spec="hi@example.org"), brand=name))
    # The parser that `policy.default` has for addresses keeps the white space between encoded words (RFC 2047, 6.2).
    shown, address = parseaddr(message_from_bytes(data)["From"])
    assert str(make_header(decode_header(shown))) == name
    assert address == "hi@example.org"
    assert name in str(make_header(decode_header(message_from_bytes(data)["Subject"])))
    head = data.partition(b"\r\n\r\n")[0]
    assert head.isascii()
    for line in head.split(b"\r\n"):
        if b"=?utf-8?" in line:
            assert len(line) <= 76 + len(b"Subject: ")
    assert all(len(word) <= 75 for word in re.findall(rb"=\?\S+\?=", head))


@pytest.mark.parametrize("mail", [CONFIRM, EXISTS])
def test_the_html_stands_in_outlook_too(mail: Mail) -> None:
    """Word knows neither `max-width` nor padding of a link, so that a table of its own and a cell have them."""
    html = body(parse(render(mail)), "html")
    assert html.count("<!--[if mso]>") == html.count("<![endif]-->") == 2
    assert 'width="520"' in html
    for cell in re.findall(r"<td[^>]*bgcolor[^>]*>", html):
        assert "mso-padding-alt:" in cell
    assert all("scope=" in head for head in re.findall(r"<th[^>]*>", html))


def test_a_mail_survives_a_server_without_8bitmime() -> None:
    """It says the same there, header for header."""
    data = render(renderer=Renderer(sender=SENDER, brand="Äcme"))
    planned = plan(Envelope("no-reply@example.org", "jane@example.net", data), {})
    assert isinstance(planned, Transaction)
    assert planned.content.isascii()
    before, after = parse(data), parse(planned.content.replace(b"\r\n..", b"\r\n."))
    assert before.items() == after.items()
    for kind in ("plain", "html"):
        assert body(before, kind).splitlines() == body(after, kind).splitlines()


def test_a_sender_may_have_a_name() -> None:
    """Then it stands in place of the brand."""
    renderer = Renderer(sender=Address("Acme, Inc.", addr_spec="hi@example.org"), brand="Acme")
    assert parse(render(renderer=renderer))["From"] == '"Acme, Inc." <hi@example.org>'


def test_the_same_arguments_make_the_same_mail() -> None:
    """A second try is the mail of the first."""
    renderer = Renderer(sender=SENDER, brand="Acme")
    assert render(renderer=renderer) == render(renderer=renderer)


@pytest.mark.parametrize(
    ("recipient", "header"),
    [
        ("jane@bücher.example", "jane@xn--bcher-kva.example"),
        ("jané@bücher.example", "jané@xn--bcher-kva.example"),
    ],
)
def test_a_recipient_beyond_ascii(recipient: str, header: str) -> None:
    """To has the domain in ASCII, and UTF-8 only where nothing else names the mailbox (RFC 6532)."""
    data = render(recipient=recipient)
    assert f"\r\nTo: {header}\r\n".encode() in data


@pytest.mark.parametrize(
    "recipient",
    [
        "jane",
        "a@b\r\nBcc: c@example.net",
        "=?utf-8?q?x?=@example.net",
        "a@b>, <c@d",
        "a\u2028@example.net",
        "Jane <a@b.example>",
    ],
)
def test_a_recipient_that_is_more_than_one_header_is_refused(recipient: str) -> None:
    """No address can add a header or a second recipient."""
    with pytest.raises(UnusableAddressError):
        render(recipient=recipient)


@pytest.mark.parametrize(
    "change",
    [
        {"link": "javascript:alert(1)"},
        {"link": "https://acme.example/\r\n\r\nhello"},
        {"link": 'https://acme.example/"><script>'},
        {"link": "https://acme.example/ x"},
        {"link": "https://acme.example/" + "x" * 1000},
        {"link": "https://acme.example/ä"},
        {"not_me_link": "not a link"},
        {"code": "12345"},
        {"code": "1234567"},
        {"code": "12345\n"},
        {"code": "١٢٣٤٥٦"},
        {"occurred_at": datetime(2026, 11, 22)},  # noqa: DTZ001 - the very thing that is refused
    ],
)
def test_a_value_that_is_not_its_kind_is_a_bug(change: dict[str, Any]) -> None:
    """Links are URLs that fit a line, codes six digits, moments know their zone."""
    with pytest.raises(ValueError, match="in a message"):
        render(replace(CONFIRM, **change))


@pytest.mark.parametrize("brand", ["A\r\nBcc: x@example.net", "=?utf-8?q?x?=", "A\u2028B", "A\0B"])
def test_a_brand_that_is_more_than_one_header_is_refused(brand: str) -> None:
    """Even the operator cannot add a header by accident."""
    with pytest.raises(ValueError, match="header"):
        Renderer(sender=SENDER, brand=brand)


ODD = "a\r\n\r\n.\r\nBcc: x@example.net\u2028=?utf-8?q?=0a?= {{ 7*7 }} {brand} <script>x</script> &amp; \"' \ud800 \x00"


@given(st.text(), st.text())
@example(ODD, "Visit https://evil.example/ or www.evil.example, mail me@evil.example")
@example("--===============", "evil\uff0eexample \u3002example \u202eelpmaxe\u202c")
def test_nothing_that_a_stranger_says_of_himself_breaks_out(origin: str, client: str) -> None:
    """Whatever origin and client hold, the mail has the same headers, parts, lines and links as without them."""
    renderer = make_renderer()
    plain, odd = (
        parse(render(replace(CONFIRM, origin=one, client=two), renderer))
        for one, two in (("", ""), (origin, client))
    )
    lines, odd_lines = (body(message, "plain").splitlines() for message in (plain, odd))
    differing = [(a, b) for a, b in zip(lines, odd_lines, strict=True) if a != b]
    assert all(a.startswith(("Network: ", "Browser: ")) and b.startswith(a[:9]) for a, b in differing)
    htmls = [Links(body(message, "html")) for message in (plain, odd)]
    assert htmls[0].links == htmls[1].links
    assert htmls[0].tags == htmls[1].tags


@given(st.text())
@example("https://evil.example/x")
@example("evil.example 1.2.3.4/x //1.2.3.4 e.g. a@b.c")
@example("http://1.2.3.4/5")
def test_what_is_shown_of_a_stranger_is_no_link(text: str) -> None:
    """No scheme, no host name, no address, no markup, one short line."""
    shown = clean(text)
    assert len(shown) <= 60
    assert not set(shown) & set("\r\n\t<>&\"'@=?;%#\\`[]{}|")
    assert "//" not in shown
    assert not re.search(r"\w\.[^\W\d]|[^\W\d]\.\w", shown)
    assert shown == clean(shown)


def test_what_describes_an_honest_client_is_shown_as_it_is() -> None:
    """Networks, versions and places keep their dots, colons and slashes."""
    for text in ("203.0.113.0/24", "2001:db8:1::/48", "Firefox 128.0 on Linux", "Zürich (CH)", "Safari, iOS"):
        assert clean(text) == text


def test_an_operator_can_replace_words_and_templates(tmp_path: Path) -> None:
    """Files of the same name in a folder win, text by text; the rest stays."""
    (tmp_path / "en.toml").write_text('[confirm]\nsubject = "{brand}: bitte"\n', "utf-8")
    (tmp_path / "de-at.toml").write_text(
        '[confirm]\ntitle = "Grüß Gott"\nintro = "Servas <b>{hours}</b>"\n', "utf-8"
    )
    (tmp_path / "account_exists.txt").write_text("{{ words.title }} {{ mail.client }}\n", "utf-8")
    renderer = Renderer(sender=SENDER, brand="Acme", templates=tmp_path)
    assert parse(render(renderer=renderer))["Subject"] == "Acme: bitte"
    austrian = parse(render(renderer=renderer, locale="de_AT"))
    assert body(austrian, "plain").startswith("Grüß Gott\n\nServas <b>{hours}</b>\n")
    assert "Servas &lt;b&gt;" in body(austrian, "html")
    assert "Confirm address" in body(austrian, "html")
    assert body(parse(render(EXISTS, renderer)), "plain") == "You already have an account \n"


@pytest.mark.parametrize(
    "locale", ["en", "EN-gb", "xx", "", "tlh-AT-x-private", "../../etc/passwd", "-", "e" * 1000]
)
def test_every_locale_finds_words(locale: str) -> None:
    """A language that we do not speak is answered in English."""
    assert parse(render(locale=locale))["Subject"] == "Confirm your email address for Acme"


@pytest.mark.parametrize(
    ("color", "ink"), [("#000000", "#ffffff"), ("#2457c5", "#ffffff"), ("#ffff00", "#000000")]
)
def test_a_button_can_be_read_on_any_brand_colour(color: str, ink: str) -> None:
    """Black or white, whichever contrasts more."""
    renderer = Renderer(sender=SENDER, brand="Acme", color=color)
    assert f"color:{ink};text-decoration:none" in body(parse(render(renderer=renderer)), "html")
