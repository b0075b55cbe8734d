"""docs/api.md has the calls that the code describes."""

from __future__ import annotations

from tests.suite.api_page import PAGE, SECTIONS, read_description, replace_calls, write_calls


async def test_the_page_is_what_is_generated() -> None:
    page = PAGE.read_text("utf-8")
    assert replace_calls(page, write_calls(await read_description())) == page, "run `make docs`"


def test_the_page_keeps_what_is_written_by_hand() -> None:
    before, calls, after = "By hand.\n", "## Calls\n", "\nBy hand, too.\n"
    page = f"{before}<!-- generated: calls -->\nold\n<!-- end -->{after}"
    assert replace_calls(page, calls) == f"{before}<!-- generated: calls -->\n\n{calls}<!-- end -->{after}"


async def test_every_call_stands_under_one_heading_and_no_heading_is_empty() -> None:
    document = await read_description()
    lines = write_calls(document).splitlines()
    calls = [line for line in lines if line.startswith("### ")]
    assert len(calls) == len(set(calls)) == sum(len(methods) for methods in document["paths"].values())
    headings = [number for number, line in enumerate(lines) if line.startswith("## ")]
    assert [lines[number] for number in headings] == [f"## {heading}" for heading in SECTIONS]
    assert all(lines[number + 2].startswith("### ") for number in headings)
