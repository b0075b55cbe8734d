"""What is installed is pinned, complete, and nobody's address."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
DEPENDENCIES: list[str] = PROJECT["project"]["dependencies"]
EMBEDDED: list[str] = PROJECT["project"]["optional-dependencies"]["embedded"]
TEST: list[str] = PROJECT["dependency-groups"]["test"]

DECLARED = {
    "serve": DEPENDENCIES,
    "base": [*DEPENDENCIES, *EMBEDDED],
    "test": [*DEPENDENCIES, *EMBEDDED, *TEST],
}


def pins(name: str) -> dict[str, str]:
    """The versions that a list pins on this machine, by canonical name."""
    lines = (ROOT / "requirements" / f"{name}.txt").read_text().splitlines()
    requirements = [Requirement(line) for line in lines]
    return {
        canonicalize_name(requirement.name): str(requirement.specifier).removeprefix("==")
        for requirement in requirements
        if requirement.marker is None or requirement.marker.evaluate()
    }


def closure(declared: list[str]) -> set[str]:
    """Everything that these requirements bring along here, by what is installed."""
    found: set[tuple[str, str]] = set()
    queue = [(Requirement(text), "") for text in declared]
    while queue:
        requirement, extra = queue.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        for wanted in {"", *requirement.extras}:
            if (name, wanted) not in found:
                found.add((name, wanted))
                queue += [(Requirement(text), wanted) for text in metadata.requires(name) or ()]
    return {name for name, _ in found}


@pytest.mark.parametrize("name", DECLARED)
def test_every_line_is_a_name_and_a_version_and_for_which_machines(name: str) -> None:
    lines = (ROOT / "requirements" / f"{name}.txt").read_text().splitlines()
    pin = re.compile(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*( ; [a-z_ !=\"0-9]+)?")
    assert [line for line in lines if not pin.fullmatch(line)] == []


@pytest.mark.parametrize("name", DECLARED)
def test_a_list_pins_what_is_needed_and_nothing_more(name: str) -> None:
    assert set(pins(name)) == closure(DECLARED[name])


@pytest.mark.parametrize("name", DECLARED)
def test_the_pinned_versions_are_among_those_declared(name: str) -> None:
    for text in DECLARED[name]:
        requirement = Requirement(text)
        assert pins(name)[canonicalize_name(requirement.name)] in requirement.specifier


def test_a_package_has_one_version_wherever_it_is_pinned() -> None:
    assert pins("serve").items() <= pins("base").items() <= pins("test").items()


def test_no_build_file_names_an_address() -> None:
    for name in ("pyproject.toml", "Makefile", "Dockerfile", ".ci/run"):
        text = (ROOT / name).read_text()
        assert not re.search(r"://(?!127\.0\.0\.1)|--index|--find-links|--extra-index|trusted-host", text), (
            name
        )
