"""What the Helm chart takes: settings of the program under their own names, and nothing that it does not know."""

from __future__ import annotations

import copy
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from regsvc.config.environment import variable
from regsvc.config.settings import SECRETS, Settings
from tests.packaging.chart import SETTINGS, VALUES
from tests.tools.chart_schema import CHART, OWN, SCHEMA, write_schema

ROOT = Path(__file__).parents[2]
DEFAULTS: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
VALIDATOR = Draft7Validator(json.loads(SCHEMA.read_text("utf-8")))


def merge(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return values with changes, as Helm merges them."""
    merged = copy.deepcopy(dict(values))
    for name, value in changes.items():
        known = merged.get(name)
        merged[name] = (
            merge(known, value) if isinstance(known, dict) and isinstance(value, Mapping) else value
        )
    return merged


def list_paths(values: Mapping[str, Any], start: str = "") -> Iterator[str]:
    for name, value in values.items():
        yield f"{start}{name}"
        if isinstance(value, dict):
            yield from list_paths(value, f"{start}{name}.")


def test_the_schema_has_the_settings_of_this_version() -> None:
    text = SCHEMA.read_text("utf-8")
    assert write_schema(text) == text, "run `make docs`"


def test_every_setting_is_a_setting_of_the_chart_or_decided_by_it() -> None:
    schema = json.loads(SCHEMA.read_text("utf-8"))["properties"]
    plain = set(schema["settings"]["properties"])
    secret = set(schema["secrets"]["properties"]["files"]["properties"])
    fields = set(Settings.model_fields) - {"oidc_providers"}
    assert plain | secret | {variable(field) for field in OWN} == {variable(field) for field in fields}
    assert secret == {variable(field) for field in SECRETS}


@pytest.mark.parametrize("name", VALUES)
def test_what_the_tests_render_is_allowed(name: str) -> None:
    assert list(VALIDATOR.iter_errors(merge(DEFAULTS, VALUES[name]))) == []


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({}, "settings"),
        ({"settings": {"REGSVC_PUBLIC_URL": "https://a.example"}}, "settings"),
        (
            {"settings": {**SETTINGS, "REGSVC_PUBLIC_URL": "https://a.example/path"}},
            "settings.REGSVC_PUBLIC_URL",
        ),
        ({"settings": {**SETTINGS, "REGSVC_BCRYPT_COST": 9}}, "settings.REGSVC_BCRYPT_COST"),
        ({"settings": {**SETTINGS, "REGSVC_SMTP_SESSIONS": "many"}}, "settings.REGSVC_SMTP_SESSIONS"),
        ({"settings": {**SETTINGS, "REGSVC_RATE_LIMITS": "perhaps"}}, "settings.REGSVC_RATE_LIMITS"),
        ({"settings": {**SETTINGS, "REGSVC_LOG_LEVEL": "loud"}}, "settings.REGSVC_LOG_LEVEL"),
        ({"settings": {**SETTINGS, "REGSVC_SECRET_KEY": "in clear"}}, "settings"),
        ({"settings": {**SETTINGS, "REGSVC_PUBLIC_ULR": "x"}}, "settings"),
        ({"settings": {**SETTINGS, "REGSVC_HTTP_PORT": 80}}, "settings"),
        ({"settings": {**SETTINGS, "REGSVC_OIDC_GOOGLE_CLIENT_SECRET": "x"}}, "settings"),
        ({"settings": SETTINGS, "secrets": {"files": {"REGSVC_LOG_LEVEL": "x"}}}, "secrets.files"),
        (
            {"settings": SETTINGS, "secrets": {"files": {"REGSVC_SECRET_KEY": "../x"}}},
            "secrets.files.REGSVC_SECRET_KEY",
        ),
        ({"settings": SETTINGS, "api": {"replica": 2}}, "api"),
        ({"settings": SETTINGS, "service": {"port": 0}}, "service.port"),
        ({"settings": SETTINGS, "image": {"digest": "latest"}}, "image.digest"),
        ({"settings": SETTINGS, "ingress": {"enabled": True}}, "ingress.host"),
        ({"settings": SETTINGS, "worker": {"keda": {"dueMails": 10_001}}}, "worker.keda.dueMails"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_value_that_cannot_be_is_refused(changes: Mapping[str, Any], path: str) -> None:
    errors = list(VALIDATOR.iter_errors(merge(DEFAULTS, changes)))
    assert {".".join(map(str, error.absolute_path)) for error in errors} == {path}


def test_every_value_is_used_in_a_template() -> None:
    templates = "".join(path.read_text() for path in (CHART / "templates").iterdir())
    used = set(re.findall(r"\.Values\.([\w.]+)", templates))
    inner = {
        f"{role}.{name}" for role in ("api", "worker") for name in re.findall(r"\.values\.(\w+)", templates)
    }
    reached = {path for path in list_paths(DEFAULTS) if path in used | inner}
    unused = {
        path
        for path in list_paths(DEFAULTS)
        if not any(path == it or path.startswith(f"{it}.") or it.startswith(f"{path}.") for it in reached)
    }
    assert unused == set()
    assert used <= {"global"} | set(list_paths(DEFAULTS)) | {"settings.REGSVC_METRICS_ALLOW"}


def test_the_chart_is_for_this_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (chart["name"], chart["appVersion"]) == (project["name"], project["version"])


def test_the_readme_names_values_that_there_are() -> None:
    known = set(list_paths(DEFAULTS))
    page = (CHART / "README.md").read_text("utf-8")
    named = set(re.findall(r"^\| `([\w.]+)` \|", page, re.MULTILINE))
    assert named
    assert named <= known
