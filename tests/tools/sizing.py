"""The figures of docs/sizing.md: what was measured and assumed, the formulas, and the table that follows from them."""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

PAGE: Final = Path(__file__).parents[2] / "docs" / "sizing.md"
USERS: Final = (10**4, 10**6, 10**8)

_OPERATORS: Final[dict[type, Callable[..., Any]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {"max": max, "ceil": math.ceil}


def read_inputs(page: str) -> dict[str, float]:
    """Return what the tables of measured and assumed figures say, by name."""
    rows = re.findall(r"^\| `(\w+)` \| ([\d.,]+) \|", page, re.MULTILINE)
    return {name: float(value.replace(",", "")) for name, value in rows}


def read_formulas(page: str) -> Iterator[tuple[str, str]]:
    """Yield name and expression of each formula, in order."""
    block = page.partition("## Formulas\n")[2].partition("```\n")[2].partition("```")[0]
    for line in block.splitlines():
        formula = line.partition("#")[0].strip()
        if formula:
            name, _, expression = formula.partition(" = ")
            yield name.strip(), expression.strip()


def evaluate(expression: str, names: Mapping[str, float]) -> float:
    """Return the value of an expression of numbers, names, `+ - * /`, `max` and `ceil`.

    Raises:
        KeyError: a name is not known.
        TypeError: there is something else in it.
    """

    def walk(node: ast.expr) -> Any:
        match node:
            case ast.Constant(value=int() | float() as number):
                return number
            case ast.Name(id=name):
                return names[name]
            case ast.BinOp(left=left, op=op, right=right):
                return _OPERATORS[type(op)](walk(left), walk(right))
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
                return _FUNCTIONS[name](*map(walk, arguments))
        raise TypeError(f"not for a formula: {ast.dump(node)}")

    return float(walk(ast.parse(expression, mode="eval").body))


def compute(page: str, users: int) -> dict[str, float]:
    """Return everything that the formulas give for a number of users, and what they are given."""
    names = read_inputs(page) | {"users": float(users)}
    for name, expression in read_formulas(page):
        if name in names:
            raise ValueError(f"{name} is there twice")
        names[name] = evaluate(expression, names)
    return names


def shown(value: float) -> str:
    """Return a figure with two digits that mean something."""
    if value == 0:
        return "0"
    digits = 1 - math.floor(math.log10(abs(value)))
    rounded = round(value, digits)
    return f"{rounded:,.{max(0, digits)}f}" if rounded % 1 else f"{rounded:,.0f}"


def write_table(page: str, labels: Sequence[tuple[str, str]], users: Sequence[int] = USERS) -> str:
    """Return the table of some results.

    Args:
        page: text of docs/sizing.md.
        labels: what a row is called, and the result that it shows.
        users: numbers of users, one column each.
    """
    found = [compute(page, number) for number in users]
    head = [
        "| users | " + " | ".join(f"{number:,}" for number in users) + " |",
        "|---" * (len(users) + 1) + "|",
    ]
    return "\n".join(
        [
            *head,
            *(
                f"| {label} (`{name}`) | " + " | ".join(shown(each[name]) for each in found) + " |"
                for label, name in labels
            ),
        ]
    )


def read_labels(page: str) -> list[tuple[str, str]]:
    """Return the rows of the page's table: what each is called, and the result that it shows."""
    return re.findall(r"^\| ([^|]+?) \(`(\w+)`\) \|", page, re.MULTILINE)
