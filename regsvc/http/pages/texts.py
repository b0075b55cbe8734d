"""The words of pages: one file a language, beside those of mails, found by what a browser asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from quart import current_app, request

from regsvc.http.own_texts import PAGE_TEXTS
from regsvc.http.request.languages import choose_tag
from regsvc.mail.message.languages import FALLBACK, list_text_folders, read_texts

_KEY = "REGSVC_PAGE_WORDS"

Texts = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Words:
    """One language's words for pages.

    Args:
        language: its tag.
        tables: its texts by table and name.
    """

    language: str
    tables: Mapping[str, Texts]

    def __getitem__(self, table: str) -> Texts:
        return self.tables[table]


def load_words(brand: str, folder: Path | None) -> Mapping[str, Words]:
    """Return the words of every language, with the brand filled in.

    Args:
        brand: the service's name.
        folder: whose texts stand in for ours.

    Raises:
        ValueError: a file is not TOML.
    """
    folders = list_text_folders(PAGE_TEXTS)
    if folder is not None:
        folders.append(folder)
    return {
        language: Words(
            language,
            {
                name: {key: text.replace("{brand}", brand) for key, text in table.items()}
                for name, table in tables.items()
            },
        )
        for language, tables in read_texts(folders).items()
    }


def put_words(config: dict[str, object], words: Mapping[str, Words]) -> None:
    """Leave the words in an application's configuration."""
    config[_KEY] = words


def fill(text: str, **values: object) -> str:
    """Return a text with its placeholders filled; braces in the values are just braces."""
    return text.format(**values)


def get_languages() -> Mapping[str, Words]:
    """Return the words of every language that there are pages in, by tag."""
    return cast("Mapping[str, Words]", current_app.config[_KEY])


def get_words() -> Words:
    """Return the words that the current request asks for (RFC 9110 section 12.5.4)."""
    languages = get_languages()
    return languages[choose_tag(request.headers.get("Accept-Language", ""), languages, FALLBACK)]
