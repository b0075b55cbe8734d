"""What the docs name is there: files, pages and their headings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def list_anchors(page: str) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a page."""
    headings = re.findall(
        r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", page, flags=re.DOTALL | re.MULTILINE), re.MULTILINE
    )
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_every_link_within_the_docs_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if not re.match(r"https?:|mailto:", target):
            name, _, anchor = target.partition("#")
            other = (page.parent / name) if name else page
            assert other.exists(), target
            assert not anchor or anchor in list_anchors(other.read_text("utf-8")), target


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_every_file_that_is_named_is_there(page: Path) -> None:
    named = set(
        re.findall(
            r"`([a-z][a-z0-9_./-]*/[a-z0-9_./-]+\.(?:py|sql|toml|html|txt|md))(?:::\w+)?`",
            page.read_text("utf-8"),
        )
    )
    roots = (ROOT, ROOT / "regsvc", ROOT / "regsvc/http", ROOT / "regsvc/mail", page.parent)
    assert sorted(name for name in named if not any((root / name).exists() for root in roots)) == []
