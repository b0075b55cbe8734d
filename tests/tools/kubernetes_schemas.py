"""JSON Schemas of the kinds of objects that the Helm chart makes, for kubeconform, without any address.

They are made of what Go modules carry: Kubernetes' own description of its API, and the definitions (CRDs) of KEDA's and
the Prometheus operator's objects. Nothing is compiled; the modules are fetched once.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import yaml

from tests.tools.go_programs import find_cache, go

KUBERNETES: Final = "k8s.io/kubernetes@v1.34.4"
DEFINITIONS: Final = {
    "github.com/kedacore/keda/v2@v2.17.2": "config/crd/bases/keda.sh_scaledobjects.yaml",
    "github.com/prometheus-operator/prometheus-operator@v0.85.0": (
        "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml"
    ),
}
NAMES: Final = "{{ .Group }}-{{ .ResourceAPIVersion }}-{{ .ResourceKind }}.json"
"""How kubeconform names a schema's file."""


def find_schemas() -> Path:
    """Return the folder of schemas; make it if it is not there yet."""
    sources = (KUBERNETES, *DEFINITIONS)
    folder = find_cache() / "-".join(source.rpartition("@")[2] for source in sources)
    if not (folder / "complete").exists():
        folder.mkdir(parents=True, exist_ok=True)
        specification = _fetch(KUBERNETES) / "api" / "openapi-spec" / "swagger.json"
        schemas = convert_specification(json.loads(specification.read_text("utf-8")))
        for module, path in DEFINITIONS.items():
            schemas |= convert_definition(yaml.safe_load((_fetch(module) / path).read_text("utf-8")))
        for name, schema in schemas.items():
            (folder / name).write_text(json.dumps(schema))
        (folder / "complete").touch()
    return folder


def convert_specification(specification: dict[str, Any]) -> dict[str, Any]:
    """Return a schema for each kind of Kubernetes' own objects, by name of its file."""
    definitions = {name: close(schema) for name, schema in specification["definitions"].items()}
    schemas = {}
    for name, schema in definitions.items():
        for kind in schema.get("x-kubernetes-group-version-kind", ()):
            if kind["group"] in _GROUPS and kind["kind"] in _KINDS:
                needed: dict[str, Any] = {}
                _gather(schema, definitions, needed)
                own = {"$ref": f"#/definitions/{name}", "definitions": needed | {name: schema}}
                schemas[_name(kind["group"], kind["version"], kind["kind"])] = own
    return schemas


def convert_definition(definition: dict[str, Any]) -> dict[str, Any]:
    """Return the schemas of a kind that a CRD defines, by name of its file."""
    spec = definition["spec"]
    return {
        _name(spec["group"], version["name"], spec["names"]["kind"]): close(
            version["schema"]["openAPIV3Schema"]
        )
        for version in spec["versions"]
    }


def close(schema: Any) -> Any:
    """Return a schema that takes no field it does not name, as the API server does with strict validation."""
    if isinstance(schema, list):
        return [close(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {
        name: {key: close(value) for key, value in inner.items()} if name == "properties" else close(inner)
        for name, inner in schema.items()
    }
    if closed.get("x-kubernetes-int-or-string") or closed.get("format") == "int-or-string":
        return {"type": ["string", "integer"]}
    if (
        isinstance(schema.get("properties"), dict)
        and "additionalProperties" not in schema
        and not schema.get("x-kubernetes-preserve-unknown-fields")
    ):
        closed["additionalProperties"] = False
    return closed


_GROUPS: Final = {"", "apps", "batch", "policy", "autoscaling", "networking.k8s.io"}
_KINDS: Final = {
    "Deployment",
    "HorizontalPodAutoscaler",
    "Ingress",
    "Job",
    "NetworkPolicy",
    "PodDisruptionBudget",
    "Service",
}


def _name(group: str, version: str, kind: str) -> str:
    return f"{group or version}-{version}-{kind.lower()}.json"


def _gather(schema: Any, definitions: dict[str, Any], found: dict[str, Any]) -> None:
    """Add to `found` every definition that a schema refers to."""
    if isinstance(schema, list):
        for each in schema:
            _gather(each, definitions, found)
    elif isinstance(schema, dict):
        reference = schema.get("$ref")
        if isinstance(reference, str):
            name = reference.rpartition("/")[2]
            if name not in found:
                found[name] = definitions[name]
                _gather(definitions[name], definitions, found)
        for inner in schema.values():
            _gather(inner, definitions, found)


def _fetch(module: str) -> Path:
    """Return the folder of a module's source, which Go fetches if it has not done so before."""
    return Path(json.loads(go("mod", "download", "-json", module))["Dir"])
