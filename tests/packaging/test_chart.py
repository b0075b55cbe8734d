"""The Helm chart, rendered: what Kubernetes gets is valid, safe, and starts this program."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from regsvc.cli import main
from regsvc.config.loading import load
from regsvc.parts import LAME_DUCK
from regsvc.program import GRACE
from tests.docs.test_operations_page import list_metrics
from tests.packaging.chart import (
    SECRETS,
    SETTINGS,
    VALUES,
    Object,
    find,
    list_containers,
    read_environ,
    render,
    render_text,
    run_helm,
)
from tests.suite.packages import do_without
from tests.tools.go_programs import KUBECONFORM
from tests.tools.kubernetes_schemas import NAMES, find_schemas

every_set = pytest.mark.parametrize("name", VALUES)
CONTENTS = {
    "database-url": "postgresql://regsvc:aB3xK9@db.example.org/regsvc?sslmode=verify-full",
    "owner-url": "postgresql://owner:aB3xK9@db.example.org/regsvc?sslmode=verify-full",
    "secret-key": "Zk3hT0xO4bq8uS9vYwq2dE5rN7mJ1pLcA6sGfKiUoHs=",
    "smtp-url": "smtps://user:aB3xK9@smtp.example.org",
    "amqp-url": "amqps://user:aB3xK9@mq.example.org/regsvc",
    "google": "GOCSPX-aB3xK9",
    "postmark": "user:aB3xK9mP2vL7wQ4z",
    "hook": "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
}


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What is in the Secret, by key."""
    key = tmp_path_factory.mktemp("dkim") / "key.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", key], check=True, timeout=60)
    return {**CONTENTS, "dkim-key": key.read_text()}


@every_set
def test_kubernetes_takes_every_object(name: str) -> None:
    program = KUBECONFORM.find()
    if program is None:
        do_without("no kubeconform here: `make tools` builds it; or set REGSVC_TEST_KUBECONFORM")
    try:
        schemas = f"{find_schemas()}/{NAMES}"
    except (FileNotFoundError, subprocess.SubprocessError):
        do_without("no schemas of Kubernetes' objects here: `make tools` fetches them with Go")
    text = render_text(name)
    done = subprocess.run(
        [program, "-strict", "-summary", "-output", "json", "-schema-location", schemas],
        input=text,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads(done.stdout)["summary"]
    assert summary == {"valid": len(render(name)), "invalid": 0, "errors": 0, "skipped": 0}
    # What is wrong is found: the schemas are closed.
    broken = subprocess.run(
        [program, "-strict", "-schema-location", schemas],
        input=text.replace("readinessProbe:", "readynessProbe:", 1),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert broken.returncode == 1


@every_set
def test_each_container_starts_with_what_it_gets(name: str, tmp_path: Path, contents: dict[str, str]) -> None:
    """By the program's own reading of its settings: each name is one, none is missing, none insecure."""
    found = {}
    for command, pod, container in list_containers(render(name)):
        folder = tmp_path / command.replace(" ", "-")
        folder.mkdir()
        environ = read_environ(container, folder, contents)
        mounted = {item["path"] for item in pod["volumes"][0]["secret"]["items"]}
        assert {path.name for path in folder.iterdir()} == mounted, "what is mounted is read"
        assert CliRunner().invoke(main, [*container["args"], "--help"]).exit_code == 0
        role: Any = command.rpartition(" ")[2]
        found[role] = (
            load(environ, mode="migrate") if role == "migrate" else load(environ, mode="serve", role=role)
        )
        if role == "migrate":
            assert set(environ) == {"REGSVC_DATABASE_URL_FILE"}
        else:
            assert found[role].http_host == ("*",)
            (port,) = container["ports"]
            assert found[role].http_port == port["containerPort"]
    assert {"api", "worker"} <= set(found)
    if name == "everything":
        assert found["worker"].smtp_sessions == 16
        assert found["api"].database_pool_life == 600_000
        assert (found["api"].rate_limits, found["worker"].database_prepare) == (True, False)
        assert "owner:" in found["migrate"].database_url.get_secret_value()


def test_a_role_gets_no_secret_that_it_does_not_read() -> None:
    names = {
        command.rpartition(" ")[2]: {
            each["name"].removesuffix("_FILE") for each in container["env"] if each["name"].endswith("_FILE")
        }
        for command, _, container in list_containers(render("everything"))
    }
    both = {"REGSVC_DATABASE_URL", "REGSVC_SECRET_KEY", "REGSVC_AMQP_URL"}
    worker = both | {"REGSVC_SMTP_URL", "REGSVC_DKIM_KEY"}
    assert names == {
        "migrate": {"REGSVC_DATABASE_URL"},
        "worker": worker,
        "api": set(SECRETS) - worker | both,
    }


@every_set
def test_no_container_may_do_more_than_it_has_to(name: str) -> None:
    for _, pod, container in list_containers(render(name)):
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
        assert {"runAsNonRoot": True, "runAsUser": 10001}.items() <= pod["securityContext"].items()
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["requests"]
        assert container["resources"]["limits"]["memory"]


@every_set
def test_probes_and_stop_are_as_the_program_has_them(name: str) -> None:
    for command, pod, container in list_containers(render(name)):
        if command == "migrate":
            continue
        paths = {kind: container[kind]["httpGet"]["path"] for kind in container if kind.endswith("Probe")}
        assert paths == {
            "startupProbe": "/healthz",
            "livenessProbe": "/healthz",
            "readinessProbe": "/readyz",
        }
        assert {container[kind]["httpGet"]["port"] for kind in paths} == {"http"}
        pause = 0
        if command.endswith("api"):
            # Nodes may take so long to learn that the pod has left its Service.
            program, *_, code = container["lifecycle"]["preStop"]["exec"]["command"]
            slept = re.fullmatch(r"import time; time\.sleep\((\d+)\)", code)
            assert program == "python"
            assert slept is not None
            pause = int(slept[1])
            assert pause >= 5
        assert pod["terminationGracePeriodSeconds"] >= pause + LAME_DUCK + GRACE + 10


@every_set
def test_services_budgets_and_policies_find_the_pods_of_one_role(name: str) -> None:
    objects = render(name)
    pods = {
        each["metadata"]["name"].rpartition("-")[2]: each["spec"]["template"]["metadata"]["labels"]
        for each in objects
        if each["kind"] in {"Deployment", "Job"}
    }
    selectors = {
        (each["kind"], each["metadata"]["name"].rpartition("-")[2]): (
            spec["selector"] if each["kind"] == "Service" else next(iter(_find_labels(spec)))
        )
        for each in objects
        if (spec := each["spec"])
        and each["kind"] not in {"Ingress", "Job", "ServiceMonitor", "ScaledObject"}
        and each["kind"] != "HorizontalPodAutoscaler"
    }
    assert {("Service", "api"), ("Service", "worker"), ("Deployment", "api")} <= set(selectors)
    for (kind, role), selector in selectors.items():
        met = {each for each, labels in pods.items() if selector.items() <= labels.items()}
        assert met == {role}, kind


def _find_labels(spec: Object) -> list[dict[str, str]]:
    return [spec[name]["matchLabels"] for name in ("selector", "podSelector") if name in spec]


def test_what_scales_a_deployment_is_alone_in_that() -> None:
    fixed, scaled = render("least"), render("scaled")
    for role, kind in (("-api", "HorizontalPodAutoscaler"), ("-worker", "ScaledObject")):
        assert find(fixed, "Deployment", role)["spec"]["replicas"] == 2
        deployment, scaler = find(scaled, "Deployment", role), find(scaled, kind, role)
        assert "replicas" not in deployment["spec"]
        assert scaler["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert not {"HorizontalPodAutoscaler", "ScaledObject"} & {each["kind"] for each in fixed}


def test_workers_are_scaled_by_a_metric_of_the_program_that_the_api_answers_with() -> None:
    objects = render("scaled")
    (trigger,) = find(objects, "ScaledObject")["spec"]["triggers"]
    assert (trigger["type"], trigger["metadata"]["format"]) == ("metrics-api", "prometheus")
    assert (trigger["metadata"]["valueLocation"], "") in list_metrics()
    service = find(objects, "Service", "-api")
    host = f"{service['metadata']['name']}.people.svc"
    (port,) = service["spec"]["ports"]
    assert trigger["metadata"]["url"] == f"http://{host}:{port['port']}/metrics"
    assert trigger["metadata"]["targetValue"] == "2000"


@pytest.mark.parametrize(
    "wanted", [{"serviceMonitor": {"enabled": True}}, {"worker": {"keda": {"enabled": True}}}]
)
def test_who_reads_metrics_has_to_be_let_in(wanted: Object) -> None:
    done = run_helm("template", "ours", values={"settings": SETTINGS, **wanted})
    assert done.returncode != 0
    assert "REGSVC_METRICS_ALLOW" in done.stderr


def test_prometheus_gives_the_job_the_name_that_the_alerts_ask_for() -> None:
    objects = render("scaled")
    monitor = find(objects, "ServiceMonitor")["spec"]
    (endpoint,) = monitor["endpoints"]
    services = [
        each
        for each in objects
        if each["kind"] == "Service"
        and monitor["selector"]["matchLabels"].items() <= each["metadata"]["labels"].items()
    ]
    assert len(services) == 2
    for service in services:
        assert service["metadata"]["labels"][monitor["jobLabel"]] == "regsvc"
        assert [port["name"] for port in service["spec"]["ports"]] == [endpoint["port"]]
    assert endpoint["path"] == "/metrics"


def test_the_schema_is_migrated_before_anything_is_replaced() -> None:
    job = find(render("least"), "Job")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    assert not [each for each in render("bare") if each["kind"] == "Job"]


def test_without_peers_nobody_reaches_a_worker_and_everybody_the_api() -> None:
    objects = render("bare")
    assert find(objects, "NetworkPolicy", "-worker")["spec"]["policyTypes"] == ["Ingress"]
    assert "ingress" not in find(objects, "NetworkPolicy", "-worker")["spec"]
    (rule,) = find(objects, "NetworkPolicy", "-api")["spec"]["ingress"]
    assert "from" not in rule
    (rule,) = find(render("everything"), "NetworkPolicy", "-worker")["spec"]["ingress"]
    assert len(rule["from"]) == 1
    (rule,) = find(render("everything"), "NetworkPolicy", "-api")["spec"]["ingress"]
    assert len(rule["from"]) == 2


@every_set
def test_helm_finds_nothing_to_complain_about(name: str) -> None:
    done = run_helm("lint", "--strict", "--quiet", values=VALUES[name])
    assert done.returncode == 0, done.stdout + done.stderr


def test_helm_refuses_what_the_schema_does_not_know() -> None:
    done = run_helm("template", "ours", values={"settings": {**SETTINGS, "REGSVC_PUBLIC_ULR": "x"}})
    assert done.returncode != 0
    assert "REGSVC_PUBLIC_ULR" in done.stderr
