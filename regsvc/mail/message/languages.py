"""The words of mails: one file a language, found by a person's language tag (RFC 5646)."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime
    from pathlib import Path

Chosen = TypeVar("Chosen")

FALLBACK: Final = "en"
"""Its file has everything; whatever another language lacks is said in it."""

LOCALES: Final = (FALLBACK, "de", "fr", "es", "pt", "it", "nl", "pl", "tr", "ja", "zh")
"""The languages that people can choose."""


@dataclass(frozen=True, slots=True)
class Language:
    """One language's words.

    Args:
        tag: Its name, such as "en" or "pt-br".
        direction: "ltr" or "rtl", for HTML.
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
        """Return a moment as people write it; it must be in UTC, which the format says."""
        month = self.months[moment.month - 1]
        return self.moment.format(
            day=moment.day, month=month, year=moment.year, hour=moment.hour, minute=moment.minute
        )

    def words_of(self, kind: str, brand: str) -> Mapping[str, str]:
        """Return the texts of a kind of mail and those common to all, with the brand filled in."""
        words = {**self.words["common"], **self.words[kind]}
        return MappingProxyType({name: text.replace("{brand}", brand) for name, text in words.items()})


def load_languages(folders: Iterable[Path]) -> Mapping[str, Language]:
    """Read every `*.toml` of the folders; a later folder's texts stand in for those of an earlier one.

    Raises:
        ValueError: A file is not TOML.
    """
    languages = {}
    for tag, texts in read_texts(folders).items():
        direction, months, moment = texts.pop("direction"), tuple(texts.pop("months")), texts.pop("moment")
        languages[tag] = Language(tag, direction, months, moment, texts)
    return languages


def read_texts(folders: Iterable[Path]) -> dict[str, dict[str, Any]]:
    """Return what the folders' `*.toml` hold by language tag, each on top of the fallback's.

    Raises:
        ValueError: A file is not TOML.
    """
    read: dict[str, dict[str, Any]] = {}
    for folder in folders:
        for file in sorted(folder.glob("*.toml")):
            _overlay(read.setdefault(file.stem.lower(), {}), tomllib.loads(file.read_text("utf-8")))
    languages = {}
    for tag, own in read.items():
        texts: dict[str, Any] = {}
        _overlay(texts, read[FALLBACK])
        _overlay(texts, own)
        languages[tag] = texts
    return languages


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
