"""A message filled into slots has the octets of a message rendered as a whole."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import UTC, datetime
from email.headerregistry import Address
from functools import cache
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regsvc.mail.message.kinds import AccountExistsMail, ConfirmMail, Mail
from regsvc.mail.message.render import Renderer
from regsvc.mail.message.samples import make_samples
from regsvc.mail.message.slots import Body

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 11, 22, 10, 17, 13, tzinfo=UTC)
SAMPLES = {mail.kind: mail for mail in make_samples("https://acme.example")}


@cache
def make_renderer() -> Renderer:
    return Renderer(sender=Address(addr_spec="no-reply@example.org"), brand="100 % Ac&me <x>")


def compare(mail: Mail, locale: str, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Render a message both ways, see that the octets are the same, and return them."""
    arguments: dict[str, Any] = {
        "mail_id": UUID(int=7),
        "recipient": "jane@example.net",
        "locale": locale,
        "now": NOW,
    }
    filled = make_renderer().render(mail, **arguments)
    with monkeypatch.context() as patch:
        patch.setattr(Body, "write", Body.render)
        assert make_renderer().render(mail, **arguments) == filled
    return filled


@pytest.mark.parametrize("locale", make_renderer().languages)
@pytest.mark.parametrize("kind", SAMPLES)
def test_every_kind_in_every_language(kind: str, locale: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With every text there, and with each that may be missing left out."""
    mail = SAMPLES[kind]
    compare(mail, locale, monkeypatch)
    for field in fields(mail):
        if field.name in {"origin", "client"}:
            compare(replace(mail, **{field.name: ""}), locale, monkeypatch)
        if field.name in {"login_link", "reset_link"}:
            compare(replace(mail, **{field.name: None}), locale, monkeypatch)
        if field.name in {"valid_for", "valid_hours"}:
            for number in (1, 2, 5, 21):
                compare(replace(mail, **{field.name: number}), locale, monkeypatch)


SHOWN = st.text(max_size=80) | st.sampled_from(
    ["0", "%s", "%b", "{0}", "A & <b>", "\0" + "1\0", "日本 7.0", "é" * 60]
)
LINKS = st.from_regex(r"https://acme\.example/[A-Za-z0-9&=%~;,]{1,800}", fullmatch=True)


@given(
    st.tuples(SHOWN, SHOWN),
    st.tuples(LINKS, LINKS),
    st.datetimes(),
    st.sampled_from(make_renderer().languages),
)
def test_any_value_in_any_language(
    shown: tuple[str, str], links: tuple[str, str], moment: datetime, locale: str
) -> None:
    """Marks of our own, of formats and of HTML, letters of all scripts, links too long for a line."""
    (origin, client), (link, other) = shown, links
    monkeypatch = pytest.MonkeyPatch()
    attempt: dict[str, Any] = {"origin": origin, "client": client, "occurred_at": moment.replace(tzinfo=UTC)}
    compare(ConfirmMail(link=link, code="042137", not_me_link=other, **attempt), locale, monkeypatch)
    compare(AccountExistsMail(login_link=link, reset_link=other, **attempt), locale, monkeypatch)


def test_an_operators_template_may_do_anything_with_a_value(tmp_path: Path) -> None:
    (tmp_path / "confirm.txt").write_text(
        "{{ mail.code | reverse }} {% if 'Fox' in mail.client %}fox{% else %}{{ mail.client | upper }}{% endif %}\n"
    )
    renderer = Renderer(sender=Address(addr_spec="no-reply@example.org"), brand="Acme", templates=tmp_path)
    for client, shown in (("Fox 1.0", b"731240 fox"), ("Lynx", b"731240 LYNX"), ("Opera", b"731240 OPERA")):
        mail = ConfirmMail(
            link="https://acme.example/confirm#t=1",
            code="042137",
            not_me_link="https://acme.example/not-me#t=1",
            occurred_at=NOW,
            origin="",
            client=client,
        )
        data = renderer.render(mail, mail_id=UUID(int=7), recipient="jane@example.net", locale="en", now=NOW)
        assert shown in data


def test_a_template_is_rendered_once_for_many_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    renderer, rendered = make_renderer(), 0
    whole = Body._render

    def count(body: Body, values: Any) -> tuple[str, str]:
        nonlocal rendered
        rendered += 1
        return whole(body, values)

    monkeypatch.setattr(Body, "_render", count)
    mail = SAMPLES["confirm"]
    assert isinstance(mail, ConfirmMail)
    for number in range(50):
        sent = replace(mail, code=f"{number:06}", client=f"Firefox {number}")
        renderer.render(sent, mail_id=UUID(int=7), recipient="jane@example.net", locale="en", now=NOW)
    assert rendered <= 1
