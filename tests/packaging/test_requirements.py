"""What is installed is pinned by version and hash, complete, and without any address."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
DEPENDENCIES: list[str] = PROJECT["project"]["dependencies"]
EMBEDDED: list[str] = PROJECT["project"]["optional-dependencies"]["embedded"]
OTEL: list[str] = PROJECT["project"]["optional-dependencies"]["otel"]
TEST: list[str] = PROJECT["dependency-groups"]["test"]
BUILD: list[str] = PROJECT["dependency-groups"]["build"]
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")

DECLARED = {
    "serve": DEPENDENCIES,
    "base": [*DEPENDENCIES, *EMBEDDED],
    "test": [*DEPENDENCIES, *EMBEDDED, *OTEL, *TEST],
    "build": BUILD,
}


def read_list(name: str) -> list[tuple[Requirement, list[str]]]:
    """Return each requirement of a list with what follows it on its continued line, its hashes."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text().replace("\\\n", " ")
    entries = [re.split(r"\s+(?=--)", line.strip()) for line in text.splitlines()]
    return [(Requirement(entry[0]), entry[1:]) for entry in entries]


def pins(name: str) -> dict[str, str]:
    """The versions that a list pins on this machine, by canonical name."""
    return {
        canonicalize_name(requirement.name): str(requirement.specifier).removeprefix("==")
        for requirement, _ in read_list(name)
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
def test_every_line_is_a_version_with_the_hashes_of_its_files(name: str) -> None:
    for requirement, hashes in read_list(name):
        assert re.fullmatch(r"==[0-9][A-Za-z0-9.]*", str(requirement.specifier)), requirement
        assert requirement.url is None
        assert hashes, requirement
        assert all(HASH.fullmatch(it) for it in hashes), requirement


@pytest.mark.parametrize("system", ["Linux", "Darwin"])
@pytest.mark.parametrize("machine", ["x86_64", "arm64", "aarch64"])
@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13", "3.14", "3.15"])
@pytest.mark.parametrize("name", DECLARED)
def test_each_machine_gets_one_version_of_a_package(
    name: str, python: str, machine: str, system: str
) -> None:
    environment = {"sys_platform": system.lower(), "platform_machine": machine, "python_version": python}
    found = [
        canonicalize_name(requirement.name)
        for requirement, _ in read_list(name)
        if requirement.marker is None or requirement.marker.evaluate(environment)
    ]
    assert sorted(found) == sorted(set(found))
    assert not {"tzdata", "colorama"} & set(found)  # these are for Windows alone


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
    assert {name: version for name, version in pins("build").items() if name in pins("test")}.items() <= (
        pins("test").items()
    )


@pytest.mark.parametrize("name", ["serve", "base", "test"])
def test_only_intel_macs_stay_with_an_older_cryptography(name: str) -> None:
    intel = {"sys_platform": "darwin", "platform_machine": "x86_64"}
    versions = {
        requirement.marker.evaluate(intel): Version(str(requirement.specifier).removeprefix("=="))
        for requirement, _ in read_list(name)
        if requirement.name == "cryptography" and requirement.marker is not None
    }
    assert versions[True] < versions[False]


def test_what_builds_the_project_is_what_is_pinned_for_that() -> None:
    assert set(PROJECT["build-system"]["requires"]) < set(BUILD)


def test_no_build_file_names_an_address() -> None:
    lists = [f"requirements/{name}.txt" for name in DECLARED]
    for name in ("pyproject.toml", "Makefile", "Dockerfile", ".ci/run", *lists):
        text = (ROOT / name).read_text()
        assert not re.search(r"://(?!127\.0\.0\.1)|--index|--find-links|--extra-index|trusted-host", text), (
            name
        )
