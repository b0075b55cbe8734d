"""The words of pages: whole in every language, and all of them used."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from regsvc.http import pages
from regsvc.mail.message.languages import LOCALES
from tests.services import Service, run_test_service

PAGES = Path(pages.__file__).parent
LANGUAGES = sorted((PAGES / "texts").glob("*.toml"))
# Found by a word that the program knows: states, codes of faults, marks of steps, strengths.
_FOUND = (
    r"(email|name|password)_\w+|step_\w+|strength_\d|(token|code|already|registration)_\w+"
    r"|origin_not_allowed|forbidden"
)


def read(file: Path) -> dict[str, dict[str, str]]:
    return tomllib.loads(file.read_text("utf-8"))


def test_there_are_pages_in_every_language_that_people_can_choose() -> None:
    assert {file.stem for file in LANGUAGES} == set(LOCALES)


@pytest.mark.parametrize("file", LANGUAGES, ids=lambda file: file.stem)
def test_a_language_has_every_text(file: Path) -> None:
    """No text is missing, empty or left over, and each has the placeholders of the English one."""
    english, own = read(PAGES / "texts" / "en.toml"), read(file)
    assert {table: set(texts) for table, texts in own.items()} == {
        table: set(texts) for table, texts in english.items()
    }
    for table, texts in own.items():
        for name, text in texts.items():
            assert text.strip() == text != ""
            assert sorted(re.findall(r"{\w*}", text)) == sorted(re.findall(r"{\w*}", english[table][name])), (
                name
            )


@pytest.mark.parametrize("file", LANGUAGES, ids=lambda file: file.stem)
def test_a_translation_is_one(file: Path) -> None:
    """Next to nothing is as in English: what is, was forgotten."""
    english, own = read(PAGES / "texts" / "en.toml"), read(file)
    same = {
        name
        for table, texts in own.items()
        for name, text in texts.items()
        if text == english[table][name] and len(text) > len("Password")
    }
    assert file.stem == "en" or not same


def test_every_text_is_used() -> None:
    """What nothing mentions need not be translated."""
    files = [*PAGES.rglob("*.py"), *PAGES.glob("templates/*.html"), *PAGES.glob("static/*.js")]
    used = "".join(file.read_text("utf-8") for file in files)
    for table, texts in read(PAGES / "texts" / "en.toml").items():
        for name in texts:
            assert re.fullmatch(_FOUND, name) or re.search(rf"\b{name}\b", used), f"{table}.{name}"


@pytest.mark.parametrize("language", LOCALES)
async def test_every_page_is_shown_in_every_language(language: str, shared_service: Service) -> None:
    for path in (
        "/signup",
        "/confirm",
        "/not-me",
        "/login",
        "/forgot",
        "/reset",
        "/email-change",
        "/email-not-me",
        "/email-undo",
    ):
        answer = await shared_service.client.get(path, headers={"Accept-Language": f"{language}, en;q=0.5"})
        assert answer.headers["Content-Language"] == language
        assert f'<html lang="{language}">' in answer.text
        assert "{" not in re.sub(r"<script.*?</script>", "", answer.text, flags=re.DOTALL)


async def test_an_operator_can_replace_words_templates_and_style(database: str, tmp_path: Path) -> None:
    """Files of the same name in the folder `pages` win, text by text; the rest stays."""
    folder = tmp_path / "templates" / "pages"
    folder.mkdir(parents=True)
    (folder / "en.toml").write_text('[signup]\ntitle = "Join {brand}"\n', "utf-8")
    (folder / "de-at.toml").write_text('[signup]\ntitle = "Servas <b>"\n', "utf-8")
    (folder / "status.html").write_text("{{ 1 + 1 }}", "utf-8")
    (folder / "error.html").write_text("own error: {{ text }}", "utf-8")
    (folder / "brand.css").write_text("main { max-width: 50rem }", "utf-8")
    environ = {"REGSVC_TEMPLATES": str(tmp_path / "templates"), "REGSVC_BRAND_NAME": "Acme"}
    async with run_test_service(database, tmp_path, environ) as service:
        english = await service.client.get("/signup")
        austrian = await service.client.get("/signup", headers={"Accept-Language": "de-AT"})
        error = await service.client.post("/login", headers={"Accept": "text/html"})
        style = await service.client.get("/static/brand.css")
    assert "<h1>Join Acme</h1>" in english.text
    assert "<h1>Servas &lt;b&gt;</h1>" in austrian.text
    assert error.text.startswith("own error: ")
    assert "--brand:" in style.text
    assert "max-width: 50rem" in style.text
