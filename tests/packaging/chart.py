"""The Helm chart as Helm renders it."""

from __future__ import annotations

import functools
import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.suite.packages import do_without
from tests.tools.chart_schema import CHART
from tests.tools.go_programs import HELM

Object = dict[str, Any]

SETTINGS = {
    "REGSVC_PUBLIC_URL": "https://accounts.example.org",
    "REGSVC_MAIL_FROM": "Accounts <no-reply@example.org>",
}
NETWORKS = {"REGSVC_METRICS_ALLOW": "10.244.0.0/16", "REGSVC_TRUSTED_PROXIES": "10.244.0.0/16"}
PEER = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
SECRETS = {
    "REGSVC_DATABASE_URL": "database-url",
    "REGSVC_SECRET_KEY": "secret-key",
    "REGSVC_SMTP_URL": "smtp-url",
    "REGSVC_AMQP_URL": "amqp-url",
    "REGSVC_DKIM_KEY": "dkim-key",
    "REGSVC_OIDC_GOOGLE_CLIENT_SECRET": "google",
    "REGSVC_FEEDBACK_POSTMARK": "postmark",
    "REGSVC_HOOK_BEFORE_SIGNUP_SECRET": "hook",
}

VALUES: dict[str, Mapping[str, Any]] = {
    "least": {"settings": SETTINGS},
    "scaled": {
        "settings": {**SETTINGS, **NETWORKS},
        "api": {"autoscaling": {"enabled": True}, "podAnnotations": {"a": "b"}, "podLabels": {"team": "x"}},
        "worker": {"keda": {"enabled": True}},
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "image": {"repository": "registry.example.org/regsvc", "digest": f"sha256:{'0' * 64}"},
    },
    "everything": {
        "fullnameOverride": "accounts",
        "settings": {
            **SETTINGS,
            **NETWORKS,
            "REGSVC_SMTP_SESSIONS": 16,
            "REGSVC_DATABASE_POOL_LIFE": 600000,
            "REGSVC_RATE_LIMITS": True,
            "REGSVC_DATABASE_PREPARE": False,
            "REGSVC_DKIM_SELECTOR": "s1",
            "REGSVC_OIDC_GOOGLE_CLIENT_ID": "client",
            "REGSVC_HOOK_BEFORE_SIGNUP": "https://hook.example.org/",
        },
        "secrets": {"name": "accounts", "files": SECRETS},
        "imagePullSecrets": [{"name": "registry"}],
        "migrate": {"secretName": "accounts-owner", "databaseUrlKey": "owner-url"},
        "ingress": {
            "enabled": True,
            "host": "accounts.example.org",
            "tlsSecret": "tls",
            "className": "nginx",
        },
        "networkPolicy": {
            "enabled": True,
            "from": [{"podSelector": {}}],
            "metricsFrom": [PEER],
            "egress": [{"ports": [{"port": 5432}]}],
        },
        "extraVolumes": [{"name": "ca", "configMap": {"name": "ca"}}],
        "extraVolumeMounts": [{"name": "ca", "mountPath": "/etc/ca"}],
        "api": {"tolerations": [{"operator": "Exists"}], "nodeSelector": {"disk": "fast"}},
        "worker": {"priorityClassName": "high", "replicas": 3},
    },
    "bare": {
        "settings": SETTINGS,
        "migrate": {"enabled": False},
        "podDisruptionBudget": {"enabled": False},
        "networkPolicy": {"enabled": True},
    },
}
"""Sets of values by name."""


def run_helm(*arguments: str, values: Mapping[str, Any]) -> subprocess.CompletedProcess[str]:
    """Run Helm on the chart; skip the test where there is none."""
    helm = HELM.find()
    if helm is None:
        do_without("no Helm here: `make tools` builds it, with Go and in minutes; or set REGSVC_TEST_HELM")
    return subprocess.run(
        [helm, *arguments, str(CHART), "--namespace", "people", "--kube-version", "1.34.4", "--values", "-"],
        input=json.dumps(values),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@functools.cache
def render_text(name: str) -> str:
    """Return what `helm template` prints for a set of values."""
    done = run_helm("template", "ours", values=VALUES[name])
    assert done.returncode == 0, done.stderr
    return done.stdout


def render(name: str) -> list[Object]:
    """Return the objects for a set of values."""
    return [each for each in yaml.safe_load_all(render_text(name)) if each]


def find(objects: list[Object], kind: str, ending: str = "") -> Object:
    """Return the one object of a kind whose name ends so."""
    (found,) = [
        each for each in objects if each["kind"] == kind and each["metadata"]["name"].endswith(ending)
    ]
    return found


def list_containers(objects: list[Object]) -> Iterator[tuple[str, Object, Object]]:
    """Yield what each container is started with, its pod's specification and its own."""
    for each in objects:
        if each["kind"] in {"Deployment", "Job"}:
            pod = each["spec"]["template"]["spec"]
            (container,) = pod["containers"]
            yield " ".join(container["args"]), pod, container


def read_environ(container: Object, folder: Path, secrets: Mapping[str, str]) -> dict[str, str]:
    """Return a container's variables, its files being in a folder.

    Args:
        container: the one.
        folder: for the files of the Secret that the pod mounts.
        secrets: contents of the files, by key of the Secret.
    """
    environ = {}
    for each in container["env"]:
        value = each["value"]
        if each["name"].endswith("_FILE"):
            key = value.removeprefix("/etc/regsvc/secrets/")
            assert "/" not in key, value
            (folder / key).write_text(secrets[key])
            value = str(folder / key)
        environ[each["name"]] = value
    return environ
