"""`make sbom` lists what the image contains: every pin, with its version and the hash of each of its files."""

from __future__ import annotations

import json

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tests.tools.sbom import MARKER, ROOT, read_pins, write_bom

PINS = list(read_pins((ROOT / "requirements" / "serve.txt").read_text("utf-8")))


def test_the_list_is_as_the_specification_has_it_and_the_same_each_time() -> None:
    written = write_bom()
    error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(written)
    assert error is None, error and error.data.message
    assert write_bom() == written


def test_every_pinned_package_is_in_it_with_its_version_and_hashes() -> None:
    found = {
        (part["name"], part["version"]): (
            {each["content"] for each in part["externalReferences"][0]["hashes"]},
            {each["value"] for each in part.get("properties", ()) if each["name"] == MARKER},
        )
        for part in json.loads(write_bom())["components"]
    }
    assert found == {
        (pin.name, str(pin.specifier).removeprefix("==")): (
            set(hashes),
            {str(pin.marker)} if pin.marker else set(),
        )
        for pin, hashes in PINS
    }
    assert len(found) > 40
    assert all(hashes for hashes, _ in found.values())


def test_it_says_what_it_is_of_and_what_that_asks_for_itself() -> None:
    bom = json.loads(write_bom())
    whole = bom["metadata"]["component"]
    assert (whole["name"], whole["licenses"]) == ("regsvc", [{"license": {"id": "Apache-2.0"}}])
    (direct,) = [each["dependsOn"] for each in bom["dependencies"] if each["ref"] == whole["bom-ref"]]
    names = {reference.partition("==")[0] for reference in direct}
    assert {"trio", "psycopg", "quart"} <= names
    assert "psycopg-binary" not in names
