"""The words of pages: whole in every language, and all of them used."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from regsvc.accounts.limits.mail_schedule import TooSoonError
from regsvc.accounts.limits.rate_limit import RateLimitedError
from regsvc.accounts.users.password import WrongPasswordError
from regsvc.errors import InvalidCredentialsError, RegsvcError
from regsvc.http import app, pages
from regsvc.http.pages.error_texts import explain_error
from regsvc.http.pages.texts import load_words
from regsvc.mail.message.languages import LOCALES
from tests.services import Service, run_test_service

assert app  # imported with every error that a page may have to explain
PAGES = Path(pages.__file__).parent
LANGUAGES = sorted((PAGES / "texts").rglob("*.toml"))
ENGLISH = [file for file in LANGUAGES if file.stem == "en"]
NAMES = [str(file.relative_to(PAGES / "texts").with_suffix("")) for file in LANGUAGES]
# Found by a word that the program knows: a step, a strength; in the table `errors` the code of an error or field.
_FOUND = r"step_\w+|strength_\d"
_FIELDS = r"(email|name|password|code|terms)_(\w+)"


def read(file: Path) -> dict[str, dict[str, str]]:
    return tomllib.loads(file.read_text("utf-8"))


def test_there_are_pages_in_every_language_that_people_can_choose() -> None:
    for english in ENGLISH:
        assert {file.stem for file in english.parent.glob("*.toml")} == set(LOCALES)
    assert {file.parent for file in LANGUAGES} == {file.parent for file in ENGLISH}


def test_a_text_is_in_one_file() -> None:
    """A text that two subjects had would be the later one's."""
    tables = [(table, name) for file in ENGLISH for table, texts in read(file).items() for name in texts]
    assert len(tables) == len(set(tables))


@pytest.mark.parametrize("file", LANGUAGES, ids=NAMES)
def test_a_language_has_every_text(file: Path) -> None:
    """No text is missing, empty or left over, and each has the placeholders of the English one."""
    english, own = read(file.with_name("en.toml")), read(file)
    assert {table: set(texts) for table, texts in own.items()} == {
        table: set(texts) for table, texts in english.items()
    }
    for table, texts in own.items():
        for name, text in texts.items():
            assert text.strip() == text != ""
            assert sorted(re.findall(r"{\w*}", text)) == sorted(re.findall(r"{\w*}", english[table][name])), (
                name
            )


@pytest.mark.parametrize("file", LANGUAGES, ids=NAMES)
def test_a_translation_is_one(file: Path) -> None:
    """Next to nothing is as in English: what is, was forgotten."""
    english, own = read(file.with_name("en.toml")), read(file)
    same = {
        name
        for table, texts in own.items()
        for name, text in texts.items()
        if text == english[table][name] and len(text) > len("Password")
    }
    assert file.stem == "en" or not same


def test_every_text_is_used() -> None:
    """What nothing mentions need not be translated."""
    codes = set(list_codes(RegsvcError))
    files = [*PAGES.rglob("*.py"), *PAGES.glob("templates/*.html"), *PAGES.glob("static/*.js")]
    used = "".join(file.read_text("utf-8") for file in files)
    tables = [(table, name) for file in ENGLISH for table, texts in read(file).items() for name in texts]
    for table, name in tables:
        if table == "errors":
            known = name in codes or re.fullmatch(_FIELDS, name)
        else:
            known = re.fullmatch(_FOUND, name) or re.search(rf"\b{name}\b", used)
        assert known, f"{table}.{name}"


def list_codes(root: type[RegsvcError]) -> Iterator[str]:
    for kind in root.__subclasses__():
        yield kind.code
        yield from list_codes(kind)


@pytest.mark.parametrize("language", LOCALES)
def test_an_error_is_explained_by_its_code(language: str) -> None:
    """Every page has the same words for it, in the reader's language; what has none is our fault, or we are busy."""
    words = load_words("Acme", None)[language]
    errors, common = words["errors"], words["common"]
    assert explain_error(words, WrongPasswordError()) == errors["wrong_password"]
    assert explain_error(words, InvalidCredentialsError()) == errors["invalid_credentials"]
    assert explain_error(words, RegsvcError("boom")) == common["failed"]
    assert explain_error(words, RateLimitedError("login", 7.4)) == common["busy"].replace("{seconds}", "7")
    soon = TooSoonError(datetime(2026, 11, 28, 10, 30, tzinfo=UTC))
    assert explain_error(words, soon) == errors["too_soon"].replace("{time}", "2026-11-28 10:30 UTC")


@pytest.mark.parametrize("language", LOCALES)
async def test_every_page_is_shown_in_every_language(language: str, shared_service: Service) -> None:
    for path in (
        "/signup",
        "/confirm",
        "/not-me",
        "/login",
        "/forgot",
        "/login/code",
        "/reset",
        "/email-change",
        "/email-not-me",
        "/email-undo",
        "/invite",
        "/panic",
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
