"""What is in `contrib/` names only what there is: metrics, commands, pages and their headings."""

from __future__ import annotations

import configparser
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from regsvc.cli import main
from tests.docs.test_links import list_anchors
from tests.docs.test_operations_page import list_metrics

ROOT = Path(__file__).parents[2]
CONTRIB = ROOT / "contrib"
RULES = yaml.safe_load((CONTRIB / "prometheus" / "regsvc.rules.yml").read_text())
DASHBOARD = json.loads((CONTRIB / "grafana" / "regsvc.json").read_text())
UNIT = CONTRIB / "systemd" / "regsvc.service"

ALERTS: list[dict[str, Any]] = [rule for group in RULES["groups"] for rule in group["rules"]]
KNOWN = dict(list_metrics())


def list_expressions() -> Iterator[tuple[str, str]]:
    """Yield every expression with the alert or panel that it is of."""
    for alert in ALERTS:
        yield alert["alert"], alert["expr"]
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


@pytest.mark.parametrize(("name", "expression"), list(list_expressions()))
def test_every_metric_exists_with_its_labels(name: str, expression: str) -> None:
    found = re.findall(r"(regsvc_\w+?)(?:_bucket|_count)?(?:\{([^}]*)\})?(?=[\s\[)>=]|$)", expression)
    assert found or expression.startswith("up"), name
    for metric, filters in found:
        assert metric in KNOWN, metric
        labels = set(re.findall(r"`(\w+)`", KNOWN[metric])) | {"job", "instance", "le"}
        used = set(re.findall(r"(\w+)\s*(?:=|!)", filters))
        grouped = {
            label.strip() for words in re.findall(r"by \(([^)]*)\)", expression) for label in words.split(",")
        }
        assert used <= labels, (metric, used)
        if len(found) == 1:
            assert grouped <= labels, (metric, grouped)


def test_every_metric_is_watched_or_drawn() -> None:
    """What nobody looks at is in neither; those are named here."""
    everything = " ".join(expression for _, expression in list_expressions())
    unseen = {metric for metric in KNOWN if metric not in everything}
    assert unseen <= {
        "regsvc_bounce_mailbox_rounds_total",
        "regsvc_child_running",
        "regsvc_foreign_messages_total",
        "regsvc_messages_malformed_total",
        "regsvc_messages_published_total",
        "regsvc_messages_unclaimed_total",
        "regsvc_process_running",
    } | {metric for metric in KNOWN if metric.startswith(("regsvc_event", "regsvc_webhook", "regsvc_hook"))}


def test_every_alert_says_what_to_do() -> None:
    names = [alert["alert"] for alert in ALERTS]
    assert len(names) == len(set(names))
    for alert in ALERTS:
        assert alert["labels"]["severity"] in {"warning", "critical"}
        page, _, anchor = alert["annotations"]["runbook"].partition("#")
        text = (ROOT / "docs" / page).read_text("utf-8")
        assert not anchor or anchor in list_anchors(text), alert["alert"]


def read_unit() -> configparser.ConfigParser:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(UNIT)
    return unit


def test_the_unit_starts_commands_that_there_are() -> None:
    service = read_unit()["Service"]
    assert service["Type"] == "notify"
    for name in ("ExecStart", "ExecStartPre"):
        _, *arguments = service[name].split()
        done = CliRunner().invoke(main, [*arguments, "--help"])
        assert done.exit_code == 0, done.output
    # The longest stop: 20 s for children and 5 s for load balancers, of each process, and some to spare.
    assert int(service["TimeoutStopSec"]) >= 40


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "regsvc.service"
    program = Path(sys.executable).with_name("regsvc")
    unit.write_text(UNIT.read_text().replace("/opt/regsvc/bin/regsvc", str(program)))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", unit],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    complaints = [line for line in done.stderr.splitlines() if "regsvc.service" in line]
    assert complaints == []
