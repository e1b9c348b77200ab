"""Prometheus's own tool judges the scrape configuration and the alerts."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.deploy.monitoring import ROOT

CONFIG = ROOT / "deploy" / "prometheus" / "prometheus.yml"


def _promtool(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("there is no promtool on this machine")
    command = (program, *arguments)
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_promtool_accepts_the_configuration_and_its_rules() -> None:
    verdict = _promtool("check", "config", CONFIG)
    assert verdict.returncode == 0, verdict.stdout + verdict.stderr


def test_each_alert_fires_on_its_trouble_and_on_nothing_else() -> None:
    verdict = _promtool("test", "rules", ROOT / "tests" / "deploy" / "alerts_test.yml")
    assert verdict.returncode == 0, verdict.stdout + verdict.stderr


def test_every_alert_has_a_test() -> None:
    rules = yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yml").read_text())
    tests = yaml.safe_load((ROOT / "tests" / "deploy" / "alerts_test.yml").read_text())["tests"]
    fired = {
        case["alertname"]
        for test in tests
        for case in test["alert_rule_test"]
        if case["exp_alerts"]
    }
    assert fired == {rule["alert"] for rule in rules["groups"][0]["rules"]}
