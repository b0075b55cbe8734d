"""An operator's own texts and languages: refused at the start when they cannot be shown, and used everywhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from regsvc.config import loading
from regsvc.errors import ConfigurationError
from regsvc.http.own_texts import check_templates
from regsvc.http.request.languages import choose_tag
from tests.services import PASSWORD, run_test_service


def check(folder: Path) -> None:
    environ = {"REGSVC_TEMPLATES": str(folder), "REGSVC_SECRET_KEY": "x", "REGSVC_SMTP_URL": "maildir:mail"}
    check_templates(loading.load(environ, mode="dev"))


@pytest.mark.parametrize(
    ("file", "text", "fault"),
    [
        (
            "pages/en.toml",
            '[signup]\npassword_hint = "At least {lenght}"',
            "signup.password_hint has the unknown",
        ),
        ("pages/sv.toml", '[inbox]\nsent = "Till {mail}"', "inbox.sent has the unknown placeholder {mail}"),
        ("pages/de.toml", '[login]\nbutton = "{0}"', "login.button has the unknown placeholder {0}"),
        (
            "pages/de.toml",
            '[login]\nbutton = "{brand.__class__}"',
            "login.button has the unknown placeholder",
        ),
        ("pages/de.toml", '[login]\nbutton = "a { b"', "login.button is not well-formed"),
        ("pages/de.toml", "[login]\nbutton = 3", "login.button is no text"),
        ("pages/de.toml", "[login", "pages/de.toml:"),
        ("en.toml", '[confirm]\nsubject = "{recipient}"', "confirm.subject has the unknown placeholder"),
    ],
)
def test_a_text_that_could_not_be_shown_is_named_at_the_start(
    tmp_path: Path, file: str, text: str, fault: str
) -> None:
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        check(tmp_path)
    assert str(path) in str(caught.value)
    assert fault in str(caught.value)


def test_texts_that_can_be_shown_are_taken(tmp_path: Path) -> None:
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "sv.toml").write_text(
        '[signup]\ntitle = "Skapa konto hos {brand}"\n[own]\nany = "{thing}"\n'
    )
    check(tmp_path)


async def test_a_language_of_the_operators_reaches_pages_mails_and_the_profile(
    database: str, tmp_path: Path
) -> None:
    folder = tmp_path / "templates"
    (folder / "pages").mkdir(parents=True)
    (folder / "pages" / "sv.toml").write_text(
        '[common]\nlanguage = "Svenska"\n[signup]\ntitle = "Skapa konto"\n'
    )
    (folder / "sv.toml").write_text('[confirm]\nsubject = "Bekräfta din adress"\n')
    swedish = {"Accept-Language": "sv-SE,sv;q=0.9,en;q=0.5"}
    async with run_test_service(database, tmp_path, {"REGSVC_TEMPLATES": str(folder)}) as service:
        page = await service.client.get("/signup", headers=swedish)
        assert page.headers["Content-Language"] == "sv"
        assert "Skapa konto" in page.text
        body = {"email": "ann@example.com", "password": PASSWORD, "name": "Ann"}
        await service.post("/register", body, swedish)
        mail = await service.wait_mail()
        assert mail.message["Subject"] == "Bekräfta din adress"
        await service.post("/confirm-email", {"token": mail.token})
        token = await service.log_in()
        for locale, status in (("de", 200), ("sv", 200), ("xx", 400)):
            answer = await service.client.patch("/api/v1/me", json={"locale": locale}, headers=token)
            assert answer.status_code == status
        assert (await service.client.get("/api/v1/me", headers=token)).json()["locale"] == "sv"


OFFERED = ("en", "de", "pt-br", "sv")


@pytest.mark.parametrize(
    ("header", "tag"),
    [
        ("", "en"),
        ("de", "de"),
        ("DE-at", "de"),
        ("xx, sv;q=0.1", "sv"),
        ("en;q=0.2, de;q=0.3", "de"),
        ("pt_BR", "pt-br"),
        ("pt", "en"),
        ("*", "en"),
        ("de;q=0", "en"),
        ("*;q=x, de_DE;q=1.5, ,;,, sv-Latn-SE;q=0.1, \xff", "sv"),
        ("de;q=nan", "en"),
        (" de ; q=1 ", "de"),
    ],
)
def test_the_language_that_a_client_likes_best_is_chosen(header: str, tag: str) -> None:
    assert choose_tag(header, OFFERED, "en") == tag


def test_a_long_header_is_not_read_to_its_end() -> None:
    """Nothing behind its beginning counts, so its length costs nothing."""
    assert choose_tag("x;q=0.1," * 2000 + "de", OFFERED, "en") == "en"
    assert choose_tag("de," + "x" * 15_000, OFFERED, "en") == "de"
