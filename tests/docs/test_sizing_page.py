"""The table of docs/sizing.md is what its formulas give for its figures."""

from __future__ import annotations

import re

import pytest

from tests.tools.sizing import (
    PAGE,
    compute,
    evaluate,
    read_formulas,
    read_inputs,
    read_labels,
    shown,
    write_table,
)

TEXT = PAGE.read_text("utf-8")


def test_the_table_is_what_the_formulas_give() -> None:
    labels = read_labels(TEXT)
    assert {"disk", "memory", "api_processes", "worker_processes"} <= {name for _, name in labels}
    table = write_table(TEXT, labels)
    assert table in TEXT, table


def test_every_figure_is_used_and_every_name_is_known() -> None:
    known, used = set(read_inputs(TEXT)) | {"users"}, set()
    for name, expression in read_formulas(TEXT):
        names = set(re.findall(r"\b[a-z]\w*\b", expression)) - {"max", "ceil"}
        assert names <= known, name
        known.add(name)
        used |= names
    shown_names = {name for _, name in read_labels(TEXT)}
    told = {
        "hash_10",
        "api_connections",
        "worker_connections",
    }  # that the text speaks of, or that people compare
    assert known - used - shown_names == told


@pytest.mark.parametrize("name", ["user_bytes", "audit_bytes", "logins", "hash_12"])
def test_another_figure_makes_another_table(name: str) -> None:
    value = read_inputs(TEXT)[name]
    other = re.sub(rf"^(\| `{name}` \|) [\d.,]+ \|", rf"\g<1> {value * 10:g} |", TEXT, flags=re.MULTILINE)
    assert write_table(other, read_labels(TEXT)) not in TEXT
    assert compute(other, 10**6)[name] == value * 10


@pytest.mark.parametrize(
    ("expression", "value"), [("1 + 2 * 3", 7), ("max(2, ceil(a / 2))", 3), ("a - 1", 4), ("(a + 1) / 2", 3)]
)
def test_an_expression_is_worth_what_it_says(expression: str, value: float) -> None:
    assert evaluate(expression, {"a": 5}) == value


@pytest.mark.parametrize("expression", ["__import__('os')", "a.b", "'x'", "a if a else a", "min(1, 2)"])
def test_what_is_no_formula_is_refused(expression: str) -> None:
    with pytest.raises((TypeError, KeyError)):
        evaluate(expression, {"a": 5})


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (1234, "1,200"), (0.0123, "0.012"), (9.99, "10"), (12.4, "12"), (1.44, "1.4")],
)
def test_two_digits_are_shown(value: float, text: str) -> None:
    assert shown(value) == text
