"""The list of what the image and a wheel's installation contain (CycloneDX 1.6). `make sbom` writes it.

It is made of the pins, so it names every file that pip may take for a package, on every machine that the pins are for.
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, Property, XsUri
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.dependency import Dependency
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cyclonedx.model.license import License

ROOT = Path(__file__).parents[2]
MARKER = "regsvc:marker"
"""Property of a component that only some machines get: the condition (PEP 508)."""


def read_pins(text: str) -> Iterator[tuple[Requirement, list[str]]]:
    """Yield each requirement of a list of pins with the SHA-256 of each of its files."""
    for line in text.replace("\\\n", " ").splitlines():
        if line.strip():
            requirement, *hashes = re.split(r"\s+--hash=sha256:", line.strip())
            yield Requirement(requirement), [each.strip() for each in hashes]


def make_bom(pyproject: str, pins: str) -> Bom:
    """Return the bill of materials.

    Args:
        pyproject: text of `pyproject.toml`.
        pins: text of `requirements/serve.txt`.
    """
    project = tomllib.loads(pyproject)["project"]
    whole = Component(
        name=project["name"],
        version=project["version"],
        type=ComponentType.APPLICATION,
        description=project["description"],
        licenses=[LicenseFactory().make_from_string(project["license"])],
        purl=PackageURL("pypi", name=project["name"], version=project["version"]),
        bom_ref=project["name"],
    )
    parts = [_make_component(*pin) for pin in read_pins(pins)]
    direct = {canonicalize_name(Requirement(text).name) for text in project["dependencies"]}
    bom = Bom(components=parts)
    bom.metadata.component = whole
    bom.dependencies.add(
        Dependency(
            whole.bom_ref,
            [Dependency(part.bom_ref) for part in parts if canonicalize_name(part.name) in direct],
        )
    )
    return bom


def _make_component(requirement: Requirement, hashes: list[str]) -> Component:
    version = next(iter(requirement.specifier)).version
    purl = PackageURL("pypi", name=canonicalize_name(requirement.name), version=version)
    return Component(
        name=requirement.name,
        version=version,
        type=ComponentType.LIBRARY,
        purl=purl,
        bom_ref=f"{requirement.name}=={version}",
        external_references=[
            ExternalReference(
                type=ExternalReferenceType.DISTRIBUTION,
                url=XsUri(str(purl)),
                hashes=[HashType(alg=HashAlgorithm.SHA_256, content=each) for each in hashes],
            )
        ],
        licenses=_find_license(requirement.name, version),
        properties=[Property(name=MARKER, value=str(requirement.marker))] if requirement.marker else [],
    )


def _find_license(name: str, version: str) -> list[License]:
    """Return the license that a package declares by SPDX (PEP 639), if this version of it is installed here."""
    try:
        found = metadata.metadata(name)
    except metadata.PackageNotFoundError:
        return []
    if "License-Expression" not in found or found["Version"] != version:
        return []
    return [LicenseFactory().make_from_string(found["License-Expression"])]


def write_bom() -> str:
    """Return the bill of materials of this checkout as JSON, the same bytes each time."""
    bom = make_bom(
        (ROOT / "pyproject.toml").read_text("utf-8"), (ROOT / "requirements" / "serve.txt").read_text("utf-8")
    )
    # No moment and no random number: one version has one list.
    written = json.loads(JsonV1Dot6(bom).output_as_string())
    del written["metadata"]["timestamp"], written["serialNumber"]
    return json.dumps(written, indent=1) + "\n"


if __name__ == "__main__":
    sys.stdout.write(write_bom())
