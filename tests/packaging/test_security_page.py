"""What docs/security.md says is shown by tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text()


def test_every_test_that_the_page_names_is_there() -> None:
    named = set(re.findall(r"`(tests/[\w/.]*)`", PAGE))
    assert len(named) > 30
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_every_test_that_the_page_names_by_function_is_there() -> None:
    named = re.findall(r"`(tests/[\w/.]*)::(\w+)`", PAGE)
    assert len(named) > 20
    lacking = [
        (path, name)
        for path, name in named
        if not re.search(rf"^(async )?def {name}\(", (ROOT / path).read_text("utf-8"), re.MULTILINE)
    ]
    assert lacking == []


def test_no_clause_is_claimed_twice() -> None:
    rows = re.findall(r"^\| ((?:\d+\.\d+\.\d+(?:, )?)+) \|", PAGE, re.MULTILINE)
    clauses = [clause for row in rows for clause in row.split(", ")]
    assert len(clauses) > 80
    assert sorted(clauses) == sorted(set(clauses))
