"""docs/log.md lists the events that the code logs."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import regsvc
from regsvc.consumer.janitor import CHORES

SOURCES = sorted(Path(regsvc.__file__).parent.rglob("*.py"))
PAGE = Path(__file__).parents[2] / "docs" / "log.md"
LEVELS = {"info", "warning", "error", "exception", "critical"}  # `debug` is for developers
PASS_ON = {"_act_on", "_report"}  # functions of commands and handlers that log the phrase they are given


def list_phrases(module: ast.Module) -> Iterator[str]:
    """Yield the events that a module logs in so many words."""
    for node in ast.walk(module):
        if isinstance(node, ast.Call) and node.args:
            match node.func:
                case ast.Attribute(value=ast.Name(id="log") | ast.Call(), attr=attr) if attr in LEVELS:
                    said = node.args[:1]
                case ast.IfExp(body=ast.Attribute(value=ast.Name(id="log"))) | ast.Name(id="tell"):
                    said = node.args[:1]
                case ast.Name(id=name) if name in PASS_ON:
                    said = node.args
                case ast.Name(id="partial") if (
                    isinstance(node.args[0], ast.Name) and node.args[0].id in PASS_ON
                ):
                    said = node.args
                case _:
                    continue
            yield from (
                each.value for each in said if isinstance(each, ast.Constant) and isinstance(each.value, str)
            )


def list_documented() -> set[str]:
    """Return the events of the page: what stands in code in the first column of its tables."""
    cells = re.findall(r"^\| (`.*?`) \|", PAGE.read_text("utf-8"), re.MULTILINE)
    return {
        found[2].strip()
        for cell in cells
        for found in re.finditer(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", cell)
    }


def test_every_event_is_listed() -> None:
    logged = {phrase for path in SOURCES for phrase in list_phrases(ast.parse(path.read_text("utf-8")))}
    logged |= {description for description, _ in CHORES}
    assert len(logged) > 100
    assert sorted(logged - list_documented()) == []


def test_every_event_that_is_listed_is_in_the_code() -> None:
    known = {
        node.value
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert sorted(list_documented() - known) == []
