"""The sections of RFCs that code and docs cite exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]

# The tables of contents of the RFCs that are cited with a section: single numbers, and `3.1-5` for 3.1 to 3.5.
SECTIONS = {
    "1870": "1-10 6.1-4",
    "2045": "1-12 2.1-10 5.1-2 6.1-8",
    "2047": "1-10 4.1-2 6.1-3",
    "2308": "1-11",
    "2920": "1-9 3.1-2",
    "3207": "1-7 4.1-3",
    "3461": "1-10 4.1-5 5.1-2 6.1-6",
    "3463": "1-9 3.1-8",
    "3834": "1-9 3.1-3 5.1-4",
    "3501": "1 1.1-3 2 2.1 2.2 2.2.1-2 2.3 2.3.1 2.3.1.1-2 2.3.2-6 2.4 2.4.1-2 3 3.1-4 4 4.1 4.1.1 4.2-3 4.3.1 4.4-5 "
    "5 5.1 5.1.1-3 5.2-5 6 6.1 6.1.1-3 6.2 6.2.1-3 6.3 6.3.1-12 6.4 6.4.1-8 6.5 6.5.1 "
    "7 7.1 7.1.1-5 7.2 7.2.1-6 7.3 7.3.1-2 7.4 7.4.1-2 7.5 8-12",
    "3986": "1-10 1.1-3 2.1-5 3.1-5 3.2.1-3 4.1-5 5.1-4 6.1-2 7.1-6",
    "4226": "1-10 5.1-4 7.1-6",
    "4616": "1-8",
    "4647": "1-8 2.1-3 3.1-4 3.3.1-2 4.1-3",
    "4648": "1-14 3.1-5",
    "4954": "1-14 4.1 5.1",
    "5321": "1-11 3.1-10 4.1-5 4.1.1-4 4.1.1.1-11 4.2.1-5 4.3.1-2 4.5.1-5 4.5.3.1-2 4.5.3.1.1-10 4.5.3.2.1-7 "
    "5.1-2 6.1-4 7.1-9",
    "5322": "1-8 2.1-3 2.1.1-2 2.2.1-3 3.1-6 3.2.1-5 3.4.1 3.6.1-8 4.1-5",
    "5890": "1-8 2.1-3 2.3.1-4",
    "5892": "1-7 2.1-10 A",
    "5893": "1-10 1.1-4",
    "6265bis": "1-10 4.1-2 4.1.1-3 4.1.3.1-4 5.1-8 5.8.1-4",
    "6238": "1-8 1.1-2 4.1-2 5.1-2 A B",
    "6376": "1-9 2.1-11 3.1-11 3.3.1-4 3.4.1-5 3.6.1-2 4.1-2 5.1-6 5.4.1-2 6.1-3 7.1-9 8.1-15",
    "7208": "1-14 3.1-5 4.1-8",
    "6749": "1-12 2.1-4 2.3.1-2 3.1-3 4.1-5 4.1.1-4 4.4.1-3 5.1-2 10.1-16",
    "7636": "1-7 4.1-6 7.1-5",
    "8252": "1-8 7.1-3 8.1-12",
    "8301": "1-6 3.1-2",
    "8463": "1-10 4.1-2",
    "6455": "1-14 1.1-9 4.1-4 4.2.1-2 5.1-8 5.5.1-3 7.1-4 7.1.1-7 7.4.1-2 10.1-8",
    "6531": "1-7 3.1-7 3.7.1-4 3.7.4.1-2 4.1-4",
    "6585": "1-8",
    "6750": "1-7 2.1-3 3.1",
    "7240": "1-7 4.1-4",
    "8018": "1-8 4.1-2 5.1-2 6.1-2",
    "9106": "1-8 3.1-7",
    "8032": "1-11 5.1-2 8.1-9",
    "8176": "1-7 1.1-2 6.1 6.1.1-2",
    "8259": "1-13 8.1-3",
    "8314": "1-10 3.1-4 4.1-5 5.1-7 7.1-4",
    "7515": "1-11 2 3.1-3 4.1-3 5.1-3 10.1-13",
    "7517": "1-10 4.1-9 5.1",
    "7518": "1-9 3.1-6 4.1-8 5.1-3 6.1-4 6.2.1-2 6.3.1-2 7.1-4 8.1-9",
    "7009": "1-7 2.1-3 4.1-2",
    "7662": "1-6 2.1-4 3.1",
    "8414": "1-8 2.1 3.1-3",
    "8725": "1-6 2.1-9 3.1-12",
    "9068": "1-7 2.1-2 2.2.1-3",
    "7489": "1-15 3.1-3 6.1-8",
    "9110": "1-19 5.1-6 5.6.1-7 6.1-6 6.6.1-2 7.1-8 8.1-8 8.8.1-4 9.1-3 10.1-2 10.1.1-6 11.1-7 11.6.1-3 "
    "12.1-5 12.5.1-5 13.1-2 13.1.1-5 15.1-6 15.5.1-22",
    "9112": "1-13 2.1-3 3.1-3 6.1-3 7.1-4 9.1-8",
    "9562": "1-9 5.1-10 6.1-13",
    "9700": "1-8 4.1-18 4.14.1-2",
}

CITED = re.compile(
    r"\bRFC ?(\d{3,5}(?:bis)?)(?:,? sections? |,? appendix |, )"
    r"((?:\d{1,2}(?:\.\d+)*|[A-Z]\b)(?:(?:, | and )\d{1,2}(?:\.\d+)*)*)(?!\d)"
)


def expand(contents: str) -> set[str]:
    """Return every section of a table of contents: `6.1-3` is 6.1, 6.2 and 6.3."""
    found: set[str] = set()
    for each in contents.split():
        first, _, last = each.partition("-")
        above, dot, number = first.rpartition(".")
        found |= {f"{above}{dot}{n}" for n in range(int(number), int(last) + 1)} if last else {first}
    return found


def list_citations() -> Iterator[tuple[str, str, str]]:
    """Yield file, RFC and section of everything that is cited with its section."""
    rooms = (ROOT / room for room in ("regsvc", "docs", "tests", "bench"))
    for path in (*ROOT.glob("*.md"), *(each for room in rooms for each in room.rglob("*"))):
        if path.suffix in {".py", ".md", ".sql", ".toml", ".html"} and path != Path(__file__):
            text = " ".join(path.read_text("utf-8").replace("# ", " ").split())
            for rfc, sections in CITED.findall(text):
                for section in re.split(r", | and ", sections):
                    yield path.relative_to(ROOT).as_posix(), rfc, section.rstrip(".")


def test_every_section_that_is_cited_exists() -> None:
    cited = list(list_citations())
    assert len(cited) > 80
    assert [each for each in cited if each[2] not in expand(SECTIONS.get(each[1], ""))] == []


def test_no_table_is_left_without_a_citation() -> None:
    assert SECTIONS.keys() - {rfc for _, rfc, _ in list_citations()} == set()


def test_a_section_that_does_not_exist_is_found() -> None:
    (cited,) = CITED.findall("by RFC 9112 section 9.9, as it were")
    assert cited == ("9112", "9.9")
    assert "9.9" not in expand(SECTIONS["9112"])
    assert {"9.8", "6.3"} <= expand(SECTIONS["9112"])
