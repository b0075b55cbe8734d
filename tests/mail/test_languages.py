from __future__ import annotations

import re
import tomllib
from email import message_from_bytes, policy
from email.headerregistry import Address
from email.message import EmailMessage
from pathlib import Path
from typing import Any, get_args

import pytest

from regsvc.accounts.users.notices import SecurityChange
from regsvc.http.own_texts import PAGE_TEXTS
from regsvc.mail.envelope import Envelope
from regsvc.mail.message import languages, render
from regsvc.mail.message.frame import fold
from regsvc.mail.message.kinds import Mail
from regsvc.mail.message.languages import LOCALES, list_text_folders, read_texts
from regsvc.mail.message.render import Renderer
from regsvc.mail.message.samples import RECIPIENT, render_samples

TEMPLATES = Path(render.__file__).with_name("templates")
LANGUAGES = sorted(TEMPLATES.glob("*.toml"))


def texts(file: Path) -> dict[str, dict[str, str]]:
    read: dict[str, Any] = tomllib.loads(file.read_text("utf-8"))
    return {name: table for name, table in read.items() if isinstance(table, dict)}


@pytest.mark.parametrize("file", LANGUAGES, ids=lambda file: file.stem)
def test_a_language_has_every_text(file: Path) -> None:
    """No text is missing, empty or left over, and each has the placeholders of the English one."""
    english, own = texts(TEMPLATES / "en.toml"), texts(file)
    assert {kind: set(table) for kind, table in own.items()} == {
        kind: set(table) for kind, table in english.items()
    }
    for kind, table in own.items():
        for name, text in table.items():
            assert text.strip() == text != ""
            assert set(re.findall(r"{\w*}", text)) == set(re.findall(r"{\w*}", english[kind][name]))
    read = tomllib.loads(file.read_text("utf-8"))
    assert len(read["months"]) == 12
    assert read["direction"] in {"ltr", "rtl"}
    assert re.findall(r"{(\w+)", read["moment"]).count("day") == 1


def test_every_text_is_used() -> None:
    """What no template mentions need not be translated."""
    used = "".join(file.read_text("utf-8") for file in TEMPLATES.iterdir() if file.suffix != ".toml")
    for kind, table in texts(TEMPLATES / "en.toml").items():
        for name in table:
            assert f"words.{name}" in used or name == "subject" or kind == "changes"


def test_every_change_of_which_owners_are_told_has_a_text() -> None:
    assert set(texts(TEMPLATES / "en.toml")["changes"]) == set(get_args(SecurityChange))


def subclasses(kind: type[Mail]) -> set[type[Mail]]:
    own = kind.__subclasses__()
    return {*own, *(below for one in own for below in subclasses(one))}


def test_every_kind_has_its_words_and_templates() -> None:
    """A new kind is a dataclass, two templates and a table."""
    found = {kind.kind for kind in subclasses(Mail) if hasattr(kind, "kind")}
    assert len(found) >= 3
    for kind in found:
        assert kind in texts(TEMPLATES / "en.toml")
        assert (TEMPLATES / f"{kind}.txt").is_file()
        assert (TEMPLATES / f"{kind}.html").is_file()


def test_there_are_words_in_every_language_that_people_can_choose() -> None:
    assert {file.stem for file in LANGUAGES} == set(LOCALES)


@pytest.mark.parametrize("file", LANGUAGES, ids=lambda file: file.stem)
def test_a_translation_is_one(file: Path) -> None:
    """Nothing is as in English: what is, was forgotten."""
    english, own = texts(TEMPLATES / "en.toml"), texts(file)
    same = [
        f"{kind}.{name}"
        for kind, table in own.items()
        for name in table
        if table[name] == english[kind][name]
    ]
    assert file.stem == "en" or not same


@pytest.mark.parametrize("brand", ["Acme", "株式会社アクメ" * 4])
@pytest.mark.parametrize("locale", LOCALES)
def test_every_kind_of_mail_is_a_good_mail_in_every_language(locale: str, brand: str) -> None:
    """Whole, every line of a length that mail may have, and with the same link in text and HTML."""
    renderer = Renderer(sender=Address(addr_spec="no-reply@example.org"), brand=brand)
    for sample in render_samples(renderer, f"https://{'accounts.' * 8}example", language=locale):
        Envelope("no-reply@example.org", RECIPIENT, sample.source)  # sees to the lines
        message = message_from_bytes(sample.source, EmailMessage, policy=policy.default)
        assert brand in message["Subject"]
        told = {}
        for kind in ("plain", "html"):
            part = message.get_body((kind,))
            assert part is not None
            told[kind] = str(part.get_content())
        assert f'lang="{locale}"' in told["html"]
        assert "{" not in told["plain"]
        for link in re.findall(r"^https://\S+", told["plain"], re.MULTILINE):
            assert f'href="{link}"' in told["html"]


def test_a_long_line_without_spaces_is_broken_where_nobody_sees_it() -> None:
    """No character, no tag and no entity is torn apart, and no space appears."""
    line = b'<p style="color:red" title="' + b"&#26666;" * 20 + b'">' + b"&#26666;" * 900 + b"<b>x</b></p>"
    folded = fold(line)
    assert max(map(len, folded.split(b"\r\n"))) <= 998
    assert folded.replace(b"<wbr\r\n>", b"") == line
    assert fold(b"x" * 998) == b"x" * 998


def test_texts_are_read_once_however_many_they_are() -> None:
    """The files of pages and mails together must fit: else each push the others out, and none is found again."""
    folders = [TEMPLATES, *list_text_folders(PAGE_TEXTS)]
    read_texts(folders)
    before = languages._parse.cache_info().misses
    read_texts(folders)
    assert languages._parse.cache_info().misses == before
