"""What the Helm chart accepts as settings, generated from the settings themselves. `make docs` writes it.

The chart's `values.schema.json` has it under `settings` and `secrets.files`; the rest of the file is written by hand.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Union, get_args, get_origin

from regsvc.config.environment import variable
from regsvc.config.identities.identity_settings import PARTS, SECRET_PARTS
from regsvc.config.settings import SECRETS, Settings

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

CHART: Final = Path(__file__).parents[2] / "contrib" / "helm" / "regsvc"
SCHEMA: Final = CHART / "values.schema.json"

OWN: Final = {"http_host", "http_port", "role", "processes"}
"""Settings that the chart itself decides: where probes look, and that Kubernetes counts processes."""
_SPELLED: Final = {"on": True, "off": False}
_BY_HAND: Final = {
    "REGSVC_PUBLIC_URL": {"type": "string", "pattern": "^https?://[^/]+/?$"},
    "REGSVC_MAIL_FROM": {"type": "string", "pattern": "@"},
    "REGSVC_ALLOW_INSECURE": {"type": ["string", "boolean"]},
}
_KEY: Final = {"type": "string", "pattern": "^[-._a-zA-Z0-9]{1,253}$"}


def describe_settings() -> dict[str, Any]:
    """Return the schema of settings that are no secrets, by variable."""
    plain = [field for field in Settings.model_fields if field not in SECRETS | OWN | {"oidc_providers"}]
    parts = "|".join(part.upper() for part in PARTS if part not in SECRET_PARTS)
    return {
        "type": "object",
        "properties": {variable(field): _describe(Settings.model_fields[field]) for field in plain}
        | _BY_HAND,
        "patternProperties": {f"^REGSVC_OIDC_[A-Z0-9]+_({parts})$": {"type": "string"}},
        "additionalProperties": False,
        "required": [variable("public_url"), variable("mail_from")],
    }


def describe_secrets() -> dict[str, Any]:
    """Return the schema of which key of the Secret has which setting."""
    parts = "|".join(part.upper() for part in sorted(SECRET_PARTS))
    return {
        "type": "object",
        "properties": {variable(field): _KEY for field in sorted(SECRETS)},
        "patternProperties": {f"^REGSVC_OIDC_[A-Z0-9]+_({parts})$": _KEY},
        "additionalProperties": False,
        "required": [variable("database_url"), variable("secret_key")],
    }


def _describe(info: FieldInfo) -> dict[str, Any]:
    """Return what a value may be. YAML reads `on` and `off` as true and false, and some texts as numbers."""
    kinds, limits = _unwrap(info.annotation)
    limits += info.metadata
    (kind,) = kinds
    if get_origin(kind) is Literal:
        words = list(get_args(kind))
        return {"enum": [*words, *(value for word, value in _SPELLED.items() if word in words)]}
    if kind is bool:
        return {"enum": [*_SPELLED.values(), *_SPELLED]}
    if kind in {int, float}:
        bounds = {"minimum": "ge", "maximum": "le", "exclusiveMinimum": "gt", "exclusiveMaximum": "lt"}
        limited = {
            bound: getattr(limit, name)
            for bound, name in bounds.items()
            for limit in limits
            if getattr(limit, name, None) is not None
        }
        return {"type": "integer" if kind is int else "number"} | limited
    pattern = next((found for limit in limits if (found := getattr(limit, "pattern", None))), None)
    return {"type": ["string", "number"]} | ({} if pattern is None else {"pattern": pattern})


def _unwrap(annotation: Any) -> tuple[list[Any], list[Any]]:
    """Return the types of an annotation, None apart, and the limits that stand beside them."""
    if get_origin(annotation) is Annotated:
        inner, *limits = get_args(annotation)
        kinds, more = _unwrap(inner)
        return kinds, [*limits, *more]
    if get_origin(annotation) in {Union, UnionType}:
        found = [_unwrap(each) for each in get_args(annotation) if each is not NoneType]
        return [kind for kinds, _ in found for kind in kinds], [
            limit for _, limits in found for limit in limits
        ]
    return [annotation], []


def write_schema(written: str) -> str:
    """Return the text of `values.schema.json` with what is generated."""
    schema = json.loads(written)
    schema["properties"]["settings"] = describe_settings()
    schema["properties"]["secrets"]["properties"]["files"] = describe_secrets()
    return json.dumps(schema, indent=2) + "\n"


if __name__ == "__main__":
    SCHEMA.write_text(write_schema(SCHEMA.read_text("utf-8")), "utf-8")
