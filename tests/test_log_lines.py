"""What the program logs names people by ids, or by an address that is masked where it is logged."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import regsvc

ROOT = Path(regsvc.__file__).parent
LEVELS = {"debug", "info", "warning", "error", "critical"}


def log_calls() -> list[tuple[str, ast.Call]]:
    """Every call of a logger in the program, with where it stands."""
    return [
        (f"{file.relative_to(ROOT)}:{node.lineno}", node)
        for file in sorted(ROOT.rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_bytes()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in LEVELS
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "log"
    ]


def whole_addresses(node: ast.AST) -> list[str]:
    """The attributes and names in an expression that hold a whole address, unless they are masked there."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "mask_email":
        return []
    found = [part for child in ast.iter_child_nodes(node) for part in whole_addresses(child)]
    if isinstance(node, ast.Attribute) and node.attr in {"email", "email_key", "recipient", "address"}:
        found.append(node.attr)
    elif isinstance(node, ast.Name) and node.id in {"email", "email_key", "recipient", "address"}:
        found.append(node.id)
    return found


def test_no_log_line_is_given_a_whole_address() -> None:
    """The redactor is a net below; it must have nothing to catch."""
    calls = log_calls()
    assert len(calls) > 50
    wrong = {
        where: names
        for where, call in calls
        if (names := [name for word in call.keywords for name in whole_addresses(word.value)])
    }
    assert not wrong


@pytest.mark.parametrize(
    "text", ["a.email", "str(letter.email)", "address", "[it.recipient for it in mails]"]
)
def test_such_a_line_would_be_found(text: str) -> None:
    assert whole_addresses(ast.parse(text, mode="eval"))


def test_a_masked_address_is_none() -> None:
    assert not whole_addresses(ast.parse("mask_email(a.email)", mode="eval"))
