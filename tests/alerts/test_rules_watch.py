"""A file of rules that changes while alerting runs."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from alerts.metrics import AlertsMetrics
from alerts.rules_file import RulesError
from alerts.rules_watch import RulesWatch
from alerts.settings import AlertsSettings

NOON = 29_000_000


class Bench:
    """A watch over a file, with a clock that the test moves."""

    def __init__(self, file: Path, **fields: object) -> None:
        self.file = file
        self.now_s = 0.0
        self.registry = CollectorRegistry()
        self.watch = RulesWatch(
            AlertsSettings.model_validate({"rules": file, **fields}),
            AlertsMetrics(self.registry),
            clock=lambda: self.now_s,
        )

    def threshold(self, after_s: float = 5.0) -> float:
        self.now_s += after_s
        return self.watch.renew().limits("market", NOON).threshold_z

    def metric(self, name: str) -> float | None:
        return self.registry.get_sample_value(f"newsquake_alerts_rules_{name}")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    file = tmp_path / "rules.yaml"
    file.write_text("defaults: {threshold_z: 4}")
    return Bench(file)


def test_a_changed_file_is_in_force_without_a_restart(bench: Bench) -> None:
    assert bench.threshold() == 4
    assert bench.metric("valid") == 1
    before = bench.metric("loaded_timestamp_seconds")
    bench.file.write_text("defaults: {threshold_z: 5}")  # as large as before
    os.utime(bench.file, (0, 0))
    assert bench.threshold(after_s=0.1) == 4, "it is not looked at all the time"
    assert bench.threshold() == 5
    after = bench.metric("loaded_timestamp_seconds")
    assert before is not None and after is not None and after >= before > 1e9


def test_what_replaces_the_file_is_seen(bench: Bench, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"  # as editors and Kubernetes do
    other.write_text("defaults: {threshold_z: 6}")
    other.replace(bench.file)
    assert bench.threshold() == 6


@pytest.mark.parametrize(
    "broken", ["defaults: {threshold: 5}", "defaults: [", "rules: [{name: a, receivers: b}]", None]
)
def test_a_broken_file_leaves_the_rules_before_it(
    bench: Bench, broken: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    if broken is None:
        bench.file.unlink()
    else:
        bench.file.write_text(broken)
    with caplog.at_level(logging.ERROR):
        assert [bench.threshold() for _ in range(3)] == [4, 4, 4]
    (record,) = caplog.records
    assert f"{bench.file}:" in record.getMessage()
    assert bench.metric("valid") == 0
    bench.file.write_text("defaults: {threshold_z: 4}")  # as it was
    assert bench.threshold() == 4
    assert bench.metric("valid") == 1


def test_another_mistake_is_told_again(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        for text in ("defaults: {a: 5}", "defaults: {b: 5}"):
            bench.file.write_text(text)
            bench.threshold()
    assert len(caplog.records) == 2


def test_in_a_replay_rules_are_read_once(bench: Bench) -> None:
    replay = Bench(bench.file, clock="event")
    bench.file.write_text("defaults: {threshold_z: 5}")
    assert replay.threshold(after_s=1e6) == 4


def test_a_broken_or_missing_file_stops_the_start(tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text("rule: []")
    with pytest.raises(RulesError, match="did you mean rules"):
        Bench(file)
    for missing in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(RulesError, match="is no file"):
            Bench(missing)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(RulesError, match="is no file"):
        Bench(tmp_path / "pipe")


def test_without_a_file_the_settings_hold() -> None:
    registry = CollectorRegistry()
    watch = RulesWatch(AlertsSettings(), AlertsMetrics(registry))
    assert watch.renew().limits("market", NOON).threshold_z == AlertsSettings().surge.threshold_z
    assert registry.get_sample_value("newsquake_alerts_rules_valid") == 1
