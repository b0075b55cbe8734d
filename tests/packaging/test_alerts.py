"""Prometheus understands the alerts, and each fires when it should and not otherwise."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.suite.packages import do_without
from tests.tools.promtool import find_promtool

FOLDER = Path(__file__).parents[2] / "contrib" / "prometheus"
RULES, CASES = FOLDER / "regsvc.rules.yml", FOLDER / "regsvc.rules.test.yml"
ALERTS = [rule["alert"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


@pytest.fixture(scope="module")
def promtool() -> str:
    """Its path."""
    return find_promtool() or do_without(
        "no promtool here: install Debian's prometheus or set REGSVC_TEST_PROMTOOL"
    )


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_prometheus_understands_the_rules(promtool: str) -> None:
    done = run(promtool, "check", "rules", RULES)
    assert done.returncode == 0, done.stderr
    assert f"{len(ALERTS)} rules found" in done.stdout


def test_each_alert_fires_in_one_case_and_is_silent_in_another() -> None:
    """The cases hold, by the next test; here is one of each for every alert."""
    cases = [each for test in yaml.safe_load(CASES.read_text())["tests"] for each in test["alert_rule_test"]]
    assert {each["alertname"] for each in cases if each["exp_alerts"]} == set(ALERTS)
    assert {each["alertname"] for each in cases if not each["exp_alerts"]} == set(ALERTS)


def test_the_cases_hold(promtool: str) -> None:
    done = run(promtool, "test", "rules", CASES)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("change", [("> ", "> 1000 * "), ("== 1", "== 2"), ("== 0", "== 2")], ids=str)
def test_alerts_that_do_not_fire_are_noticed(promtool: str, change: tuple[str, str], tmp_path: Path) -> None:
    shutil.copy(CASES, tmp_path)
    text = RULES.read_text()
    changed = re.sub(re.escape(change[0]), change[1], text)
    assert changed != text
    (tmp_path / RULES.name).write_text(changed)
    done = run(promtool, "test", "rules", tmp_path / CASES.name)
    assert done.returncode == 1, done.stdout
