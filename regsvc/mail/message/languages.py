"""The texts of messages: one file per language, chosen by language tag (RFC 5646)."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from string import Formatter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime

Chosen = TypeVar("Chosen")

FALLBACK: Final = "en"
"""Its file has everything; whatever another language lacks is said in it."""

MAIL_TEXTS: Final = Path(__file__).with_name("templates")
"""Our own texts of mails."""

LOCALES: Final = (FALLBACK, "de", "fr", "es", "pt", "it", "nl", "pl", "tr", "ja", "zh")
"""The languages that people can choose."""


@dataclass(frozen=True, slots=True)
class Language:
    """The texts of one language.

    Args:
        tag: Its name, such as "en" or "pt-br".
        direction: Text direction for HTML, "ltr" or "rtl".
        months: Twelve names.
        moment: A format with `day`, `month`, `year`, `hour` and `minute`.
        words: For each kind of mail, and "common", its texts by name.
    """

    tag: str
    direction: str
    months: tuple[str, ...]
    moment: str
    words: Mapping[str, Mapping[str, str]]

    def say_moment(self, moment: datetime) -> str:
        """Format a UTC time for readers of the language."""
        month = self.months[moment.month - 1]
        return self.moment.format(
            day=moment.day, month=month, year=moment.year, hour=moment.hour, minute=moment.minute
        )

    def words_of(self, kind: str, brand: str) -> Mapping[str, str]:
        """Return the texts of a kind of message and the common ones, with the brand filled in."""
        words = {**self.words["common"], **self.words[kind]}
        return MappingProxyType({name: text.replace("{brand}", brand) for name, text in words.items()})


def load_languages(folders: Iterable[Path]) -> Mapping[str, Language]:
    """Read every `*.toml` of the folders; texts of later folders override earlier ones.

    Raises:
        ValueError: A file is not TOML.
    """
    languages = {}
    for tag, texts in read_texts(folders).items():
        direction, months, moment = texts.pop("direction"), tuple(texts.pop("months")), texts.pop("moment")
        languages[tag] = Language(tag, direction, months, moment, texts)
    return languages


def read_texts(folders: Iterable[Path]) -> dict[str, dict[str, Any]]:
    """Return the texts of the folders' `*.toml` by language tag, completed by the fallback's.

    Raises:
        ValueError: A file is not TOML.
    """
    read: dict[str, dict[str, Any]] = {}
    for folder in folders:
        for file in sorted(folder.glob("*.toml")):
            _overlay(read.setdefault(file.stem.lower(), {}), _parse(file, file.stat().st_mtime_ns))
    languages = {}
    for tag, own in read.items():
        texts: dict[str, Any] = {}
        _overlay(texts, read[FALLBACK])
        _overlay(texts, own)
        languages[tag] = texts
    return languages


@lru_cache(maxsize=512)  # more than there are files, of pages and mails together: each is then read once
def _parse(file: Path, _changed: int) -> dict[str, Any]:
    return tomllib.loads(file.read_text("utf-8"))


@lru_cache(maxsize=8)
def list_locales(templates: Path | None) -> tuple[str, ...]:
    """Return the tags of the languages that users can choose, including those of the operator's files.

    Args:
        templates: the operator's folder (REGSVC_TEMPLATES), whose `pages` has the texts of pages.
    """
    own: set[str] = set()
    if templates is not None:
        own = {
            file.stem.lower() for folder in (templates, templates / "pages") for file in folder.glob("*.toml")
        }
    return (*LOCALES, *sorted(own - set(LOCALES)))


def list_text_folders(root: Path) -> list[Path]:
    """Return a folder of texts and the folders directly in it, each with the texts of one subject."""
    return [root, *sorted(folder for folder in root.iterdir() if folder.is_dir())]


def find_text_errors(ours: Path, theirs: Path) -> Iterator[str]:
    """Yield the errors of an operator's texts, each with its file and key.

    A placeholder missing from our English text would have no value.

    Args:
        ours: folder of the texts included in the program; those of a subject may be in a folder of their own.
        theirs: folder of the operator's texts, which override them.
    """
    model = _flatten(read_texts(list_text_folders(ours))[FALLBACK])
    for file in sorted(theirs.glob("*.toml")):
        try:
            texts = _flatten(tomllib.loads(file.read_text("utf-8")))
        except (ValueError, OSError) as error:
            yield f"{file}: {error}"
            continue
        for key, text in texts.items():
            if key not in model:
                continue  # for an operator's own template
            if type(text) is not type(model[key]):
                yield f"{file}: {key} is no {'text' if isinstance(model[key], str) else 'list'}"
            elif isinstance(text, str):
                yield from (f"{file}: {key} {fault}" for fault in _find_faults(text, str(model[key])))


def _find_faults(text: str, model: str) -> Iterator[str]:
    try:
        found = {name for _, name, _, _ in Formatter().parse(text) if name is not None}
    except ValueError as error:
        yield f"is not well-formed ({error}); a brace is written twice"
        return
    known = {name for _, name, _, _ in Formatter().parse(model) if name is not None} | {"brand"}
    for name in sorted(found - known):
        offered = ", ".join(f"{{{each}}}" for each in sorted(known))
        yield f"has the unknown placeholder {{{name}}}; there is {offered}"


def _flatten(tables: Mapping[str, Any], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in tables.items():
        flat |= _flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat


def choose_language(languages: Mapping[str, Chosen], locale: str) -> Chosen:
    """Return the best language for a tag: "de-AT" finds "de-at", else "de", else the fallback (RFC 4647, 3.4)."""
    tag = locale.replace("_", "-").lower()
    while tag not in languages and "-" in tag:
        tag = tag.rpartition("-")[0]
    return languages.get(tag) or languages[FALLBACK]


def _overlay(below: dict[str, Any], above: Mapping[str, Any]) -> None:
    for name, value in above.items():
        if isinstance(value, dict):
            _overlay(below.setdefault(name, {}), value)
        else:
            below[name] = value
