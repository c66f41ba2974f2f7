"""Alerts of earlier runs come back whole or not at all, and only to a run that would give the same."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import SecretStr

from alerts.receivers import WebhookReceiver
from alerts.settings import AlertsSettings, SurgeSettings
from stream import backtest_judging
from stream.backtest_judging import Setup
from stream.kept_alerts import MOST_RUNS, TABLE, KeptAlerts
from tests.made import made_alert, made_story

AT = datetime(2023, 3, 10, 12, 0, 0, 250_000, UTC)
FOUND = [made_alert("SIVB", AT, stories=(made_story("A bank falls — 50 %", AT, negative=0.1 + 0.2),), moved_at=AT)]


@pytest.fixture
def base(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(tmp_path / "kept.sqlite", isolation_level=None)) as found:
        found.executescript(TABLE)
        yield found


def test_alerts_come_back_by_what_they_were_judged_with(base: sqlite3.Connection) -> None:
    kept = KeptAlerts(base)
    kept.put("these", FOUND)
    kept.put("none", [])
    assert kept.get("these") == FOUND
    assert kept.get("none") == []
    assert kept.get("others") is None
    kept.put("these", [])
    assert kept.get("these") == []


@pytest.mark.parametrize("damage", ["substr(alerts, 1, 99)", "'text'", "x''", "NULL", "7"])
def test_what_is_damaged_is_dropped(base: sqlite3.Connection, damage: str) -> None:
    kept = KeptAlerts(base)
    kept.put("these", FOUND)
    base.execute(f"UPDATE alerts SET alerts = {damage}")
    assert kept.get("these") is None
    assert base.execute("SELECT count(*) FROM alerts").fetchone() == (0,)


def test_a_flipped_bit_is_noticed(base: sqlite3.Connection) -> None:
    kept = KeptAlerts(base)
    for place in range(10, 400, 13):
        kept.put("these", FOUND)
        (raw,) = base.execute("SELECT alerts FROM alerts").fetchone()
        flipped = bytearray(raw)
        flipped[place] ^= 4
        base.execute("UPDATE alerts SET alerts = ?", (bytes(flipped),))
        assert kept.get("these") is None


def test_the_latest_runs_stay(base: sqlite3.Connection) -> None:
    kept = KeptAlerts(base)
    kept.put("again", FOUND)
    for number in range(MOST_RUNS):
        kept.put(str(number), FOUND)
        if number == 1:
            kept.put("again", FOUND)
    assert kept.get("0") is None
    assert kept.get("1") == kept.get("again") == FOUND
    assert base.execute("SELECT count(*) FROM alerts").fetchone() == (MOST_RUNS,)


def test_whatever_decides_about_alerts_makes_another_run_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = AlertsSettings()
    rules = Path("rules.yaml")
    digests = [
        Setup(settings).digest("windows"),
        Setup(settings).digest("other windows"),
        Setup(settings.model_copy(update={"surge": SurgeSettings(threshold_z=4)})).digest("windows"),
        Setup(settings.model_copy(update={"critical_z": 5})).digest("windows"),
        Setup(settings.model_copy(update={"rules": rules}), b"").digest("windows"),
        Setup(settings.model_copy(update={"rules": rules}), b"rules: []").digest("windows"),
    ]
    monkeypatch.setattr(backtest_judging, "version", lambda name: "0")
    backtest_judging._code.cache_clear()
    digests.append(Setup(settings).digest("windows"))
    monkeypatch.undo()
    monkeypatch.setattr(backtest_judging, "_CODE", {"alerts": ("surge.py",)})
    backtest_judging._code.cache_clear()
    digests.append(Setup(settings).digest("windows"))
    monkeypatch.undo()
    backtest_judging._code.cache_clear()
    assert len(set(digests)) == len(digests)


def test_where_the_rules_lie_and_who_is_told_decide_about_no_alert() -> None:
    desk = WebhookReceiver(name="desk", url=SecretStr("http://127.0.0.1:1/"), secrets=(SecretStr("whsec_" + "A" * 32),))
    here = AlertsSettings(rules=Path("here.yaml"))
    there = AlertsSettings(rules=Path("there.yaml"), receivers=(desk,), explain=False, clock="event")
    assert Setup(here, b"rules: []").digest("windows") == Setup(there, b"rules: []").digest("windows")
