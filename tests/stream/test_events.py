"""Alerts against known events: which count as found, and the intervals."""

from __future__ import annotations

import doctest
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import stream.events
from alerts.alert import Alert, Figures, Story
from stream.events import Known, is_about, judge, proportion, rate, read_events
from stream.history import HistoryError

T0 = datetime(2023, 3, 10, tzinfo=UTC)
FIRST = int(T0.timestamp()) // 60
LAST = FIRST + 14 * 1_440 - 1


def alert(hours: float, series: str, companies: tuple[str, ...] = ()) -> Alert:
    at = T0 + timedelta(hours=hours)
    figures = Figures(
        window_min=60, observed=9, others=1, copies=0, expected=1.0, low=0, high=4, p_value=1e-6, z=5.0, share=0.2,
        history=30.0,
    )  # fmt: skip
    story = Story(
        title="Bank falls", publisher="Daily", source="test", url="", published_at=at, topic="Macro",
        companies=companies, negative=0.9,
    )  # fmt: skip
    return Alert(
        id=f"{series}@{hours}", revision=1, status="firing", severity="warning", series=series, name=series,
        started_at=at, updated_at=at, summary="", figures=figures, peak=figures, publishers=2, stories=(story,),
    )  # fmt: skip


def test_an_alert_counts_for_an_event_of_its_series_within_the_hours_given():
    alerts = [alert(9, "company=SIVB"), alert(12, "company=SIVB;topic=Macro"), alert(60, "topic=Macro")]
    events = [
        Known(T0 + timedelta(hours=8), "run", "company=SIVB"),
        Known(T0 + timedelta(hours=50), "talk", "company=FRC"),
        Known(T0 - timedelta(days=1), "before the items"),
    ]
    verdict = judge(alerts, events, [], first=FIRST, last=LAST, within_h=24)
    assert (verdict.events, verdict.outside) == (2, 1)
    assert [(each.alert, each.delay_min) for each in verdict.found] == [("company=SIVB@9", 60.0), (None, None)]
    assert verdict.precision.value == pytest.approx(2 / 3)
    assert verdict.sensitivity.value == 0.5
    assert verdict.false_a_week.value == 0.5
    assert verdict.delay_min.value == 60


def test_a_broad_alert_is_about_a_company_when_half_of_its_stories_are():
    assert is_about(alert(1, "market", ("SIVB",)), "company=SIVB")
    assert not is_about(alert(1, "market", ("FRC",)), "company=SIVB")
    assert is_about(alert(1, "market", ("FRC",)), "")
    assert not is_about(alert(1, "company=SIVB"), "topic=Macro")


def test_a_theme_on_a_cashtag_is_about_the_company():
    assert is_about(alert(1, "theme=$SIVB"), "company=SIVB")
    assert not is_about(alert(1, "theme=$SI"), "company=SIVB")


def test_the_example_in_the_docstring_holds():
    assert doctest.testmod(stream.events).failed == 0


def test_no_alerts_and_no_events_give_no_numbers():
    verdict = judge([], [], [], first=FIRST, last=LAST, within_h=24)
    assert verdict.precision.value is verdict.sensitivity.value is verdict.delay_min.value is None
    assert verdict.false_a_week.value == 0


@given(st.integers(0, 60), st.integers(1, 60))
def test_intervals_hold_their_value(hits: int, more: int):
    share, often = proportion(hits, hits + more), rate(hits, more)
    assert 0 <= share.low <= share.value <= share.high <= 1
    assert 0 <= often.low <= often.value <= often.high


def test_a_list_is_read_from_csv_and_jsonl_and_what_is_wrong_is_told(tmp_path: Path):
    table = tmp_path / "a.csv"
    table.write_text("time,name,series\n2023-03-10T12:00:00Z,run,sivb\nsoon,x,\n2023-03-09,talk,topic=Macro\n")
    events, wrong = read_events(table)
    assert [(event.name, event.series) for event in events] == [("talk", "topic=Macro"), ("run", "company=SIVB")]
    assert wrong == ["row 2: 'soon' is not a time"]
    lines = tmp_path / "a.jsonl"
    lines.write_text('{"time": 1678449600, "name": "run"}\n{"time\n')
    events, wrong = read_events(lines)
    assert events == [Known(datetime.fromtimestamp(1678449600, UTC), "run")]
    assert len(wrong) == 1
    lines.write_text("")
    with pytest.raises(HistoryError, match="no event"):
        read_events(lines)
