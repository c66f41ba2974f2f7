"""Prometheus's own checks of its configuration, and of the rules on newsquake's health."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest

from alerts.desk.metrics import DeskMetrics
from alerts.metrics import AlertsMetrics
from deploy.metrics import ProcessMetrics
from ingest.metrics import IngestMetrics
from model.metrics import DriftMetrics
from stream.metrics import StreamMetrics

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
RULES = PROMETHEUS / "rules" / "newsquake.yml"
TESTS = PROMETHEUS / "tests" / "newsquake_test.yml"


@pytest.fixture
def promtool(service_program):
    program = service_program("promtool", "prometheus")

    def run(*arguments):
        command = [program, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, cwd=PROMETHEUS, check=False)

    return run


def rules(kind):
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"] if kind in rule]


@pytest.mark.parametrize("config", ["prometheus.yml", "prometheus.compose.yml"])
def test_prometheus_takes_the_configuration(promtool, config):
    done = promtool("check", "config", PROMETHEUS / config)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 rule files found" in done.stdout


def test_alertmanager_takes_the_example(service_program):
    program = service_program("amtool", "prometheus-alertmanager")
    command = [program, "check-config", str(PROMETHEUS / "alertmanager.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_alertmanager_example_names_rules_that_exist():
    names = {rule["alert"] for rule in rules("alert")}
    text = (PROMETHEUS / "alertmanager.yml").read_text()
    cited = set(re.findall(r"Newsquake[A-Za-z]+", text))
    assert len(cited) > 8
    assert cited <= names


def test_each_alert_fires_on_its_fault_and_none_on_a_healthy_system(promtool):
    done = promtool("test", "rules", TESTS)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_rules_tests_notice_a_rule_that_never_fires(promtool, tmp_path):
    shutil.copytree(PROMETHEUS, tmp_path / "p")
    copy = tmp_path / "p" / "rules" / "newsquake.yml"
    broken = RULES.read_text().replace(
        "newsquake_alerts_behind_seconds > 300", "newsquake_alerts_behind_seconds > 9000"
    )
    copy.write_text(broken)
    done = promtool("test", "rules", tmp_path / "p" / "tests" / "newsquake_test.yml")
    assert done.returncode != 0
    assert "NewsquakeAlertsBehind" in done.stdout + done.stderr


def test_each_alert_is_tested_and_has_an_entry_in_the_runbook():
    alerts = {rule["alert"]: rule for rule in rules("alert")}
    fired = {
        case["alertname"]
        for test in yaml.safe_load(TESTS.read_text())["tests"]
        for case in test.get("alert_rule_test", [])
        if case["exp_alerts"]
    }
    assert fired == alerts.keys()
    operations = (ROOT / "docs" / "operations.md").read_text()
    entries = re.findall(r"^### (Newsquake\w+)$", operations, re.MULTILINE)
    assert sorted(entries) == sorted(alerts)
    for name, rule in alerts.items():
        assert rule["annotations"]["runbook_url"] == f"docs/operations.md#{name.lower()}"
        assert rule["labels"]["severity"] in {"critical", "warning"}


def test_the_rules_ask_for_metrics_that_exist():
    registry = CollectorRegistry()
    IngestMetrics(registry)
    StreamMetrics(registry)
    AlertsMetrics(registry)
    DeskMetrics(registry)
    DriftMetrics(registry)
    ProcessMetrics(registry, lambda: ([], []))
    known = set()
    for family in registry.collect():
        known |= {family.name + suffix for suffix in ("", "_total", "_bucket", "_sum", "_count")}
    asked = {name for rule in rules("expr") for name in re.findall(r"\bnewsquake_[a-z0-9_]+", rule["expr"])}
    assert asked
    assert asked <= known


def test_what_the_rules_count_starts_at_zero_so_that_the_first_one_is_an_increase():
    registry = CollectorRegistry()
    IngestMetrics(registry)
    StreamMetrics(registry)
    AlertsMetrics(registry).receiver("desk")
    served = generate_latest(registry).decode()
    counted = {
        found
        for rule in rules("alert")
        for found in re.findall(r'increase\((newsquake_\w+?(?:\{\w+="\w+"\})?)\[', rule["expr"])
    }
    assert 'newsquake_stream_records_total{outcome="dead"}' in counted
    # a source's counters appear with its first document; that rule looks for their absence
    for name in counted - {"newsquake_ingest_documents_total"}:
        bare, _, label = name.rstrip("}").partition("{")
        labels = rf"\{{(.*,)?{re.escape(label)}(,.*)?\}}" if label else r"(\{.*\})?"
        assert re.search(rf"^{bare}{labels} 0\.0$", served, re.M), name
