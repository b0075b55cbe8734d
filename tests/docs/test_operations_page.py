"""docs/operations.md lists the metrics and the commands that the code has."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
from prometheus_client.metrics import MetricWrapperBase

from regsvc import metrics
from regsvc.cli import main

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text("utf-8")


def list_metrics() -> Iterator[tuple[str, str]]:
    """Yield name and labels of each metric, as `/metrics` has them."""
    for metric in vars(metrics).values():
        if isinstance(metric, MetricWrapperBase):
            ending = "_total" if metric._type == "counter" else ""
            yield f"{metric._name}{ending}", ", ".join(f"`{label}`" for label in metric._labelnames)


def list_commands(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    """Yield each command that does something, by its whole name."""
    if isinstance(command, click.Group):
        context = click.Context(command)
        for word in command.list_commands(context):
            each = command.get_command(context, word)
            assert each is not None
            yield from list_commands(each, f"{name} {word}")
    else:
        yield name, command


def test_the_page_has_exactly_the_metrics_with_their_labels() -> None:
    rows = re.findall(r"^\| `(regsvc_\w+)` \| (.*?) \|", PAGE, re.MULTILINE)
    assert len(rows) > 10
    assert sorted(rows) == sorted(list_metrics())


def test_the_page_has_exactly_the_commands() -> None:
    table = PAGE.partition("## Commands\n")[2].partition("\n## ")[0]
    listed = set()
    for words in re.findall(r"^\| `(regsvc [^`]+)` \|", table, re.MULTILINE):
        name, *choices = re.split(r"\\\|", re.sub(r" (\[.*|[A-Z]+.*)", "", words))
        stem = name.rpartition(" ")[0]
        listed |= {name, *(f"{stem} {choice}" for choice in choices)}
    assert listed == {name for name, _ in list_commands(main, "regsvc")}


def test_every_option_of_a_command_that_the_page_types_is_there() -> None:
    commands = dict(list_commands(main, "regsvc"))
    blocks = re.findall(r"^```\w*\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    typed = [line for block in blocks for line in block.splitlines() if line.startswith("regsvc ")]
    found = 0
    for line in typed:
        name = max((known for known in commands if f"{line} ".startswith(f"{known} ")), key=len, default=None)
        if name is not None:
            known = {option for each in commands[name].params for option in each.opts}
            options = set(re.findall(r"(?<= )--[a-z-]+", line.partition("   ")[0]))
            assert options <= known, (line, options - known)
            found += 1
    assert found > 15
