from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from regsvc.mail import render
from regsvc.mail.kinds import Mail

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
    for table in texts(TEMPLATES / "en.toml").values():
        for name in table:
            assert f"words.{name}" in used or name == "subject"


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
