"""Time alone: silences begin and end on it, and what nobody acknowledges escalates."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
import redis

from alerts import timers
from alerts.actions import Actions
from alerts.alert import Alert
from alerts.matchers import parse
from alerts.routes import Branch, Routes
from alerts.rules import Rules
from alerts.rules_file import parse as parse_rules
from alerts.settings import AlertsSettings
from alerts.silences import Silence, Silences
from alerts.store import AlertStore
from alerts.timers import Timers

MINUTE = timedelta(minutes=1)


class Clockwork:
    """Timers over a store, and a clock that tests move, in minutes since the alert fired."""

    def __init__(self, store: redis.Redis, alert: Alert, rules: Rules) -> None:
        self.began = alert.updated_at
        self.alerts = AlertStore(store)
        self.actions = Actions(store, self._now_s)
        self.timers = Timers(store, self.alerts, lambda: rules, calm_min=60)
        self.now = self.began

    def _now_s(self) -> float:
        return self.now.timestamp()

    def at(self, minutes: float) -> list[tuple[str, str, str]]:
        self.now = self.began + minutes * MINUTE
        return [(step.event, step.cause, step.state) for step in self.timers.step(self.now)]

    def silence(self, first: float, last: float, matchers: str = "company=SIVB", id_: str = "s1") -> None:
        made = Silence(
            id=id_, matchers=parse(matchers), starts_at=self.began + first * MINUTE, ends_at=self.began + last * MINUTE,
            author="anna", reason="known", created_at=self.now,
        )  # fmt: skip
        self.actions.silence(made, "anna")


@pytest.fixture
def clockwork(store: redis.Redis, alert: Alert, tmp_path: Path) -> Callable[..., Clockwork]:
    def make(route: str = "", more: str = "") -> Clockwork:
        settings = AlertsSettings()
        rules = Rules(settings)
        if route:
            file = tmp_path / "rules.yaml"
            file.write_text(f"route: {route}\n{more}\n")
            rules = Rules(settings, parse_rules(file.read_bytes(), file, receivers=["boss"]))
        return Clockwork(store, alert, rules)

    return make


ESCALATES = (
    "{escalate_after: 15m, escalate_to: [boss], routes: [{matchers: ['severity=critical'], escalate_after: 5m}]}"
)


def test_a_silence_begins_and_ends_by_itself(clockwork: Callable[..., Clockwork], alert: Alert) -> None:
    time = clockwork()
    time.alerts.put(alert)
    time.silence(10, 20)
    assert time.at(9) == []
    assert time.at(10) == [("silenced", "", "firing")]
    assert time.at(19.9) == []
    assert time.at(20) == [("unsilenced", "", "firing")]
    assert time.at(21) == []
    view = time.alerts.view(alert.id)
    assert view is not None
    steps = view.transitions
    assert [(step.actor, step.reason) for step in steps[1:]] == [
        ("anna", "known"), ("newsquake", "the silence has ended"),
    ]  # fmt: skip


def test_a_silence_that_ends_over_a_resolved_alert_is_no_news(
    clockwork: Callable[..., Clockwork], alert: Alert
) -> None:
    time = clockwork()
    time.alerts.put(alert)
    time.silence(0, 20)
    time.actions.resolve(alert.id, "anna")
    assert time.at(21) == []


def test_an_alert_that_grows_out_of_a_silence_is_told(clockwork: Callable[..., Clockwork], alert: Alert) -> None:
    time = clockwork()
    warning = msgspec.structs.replace(alert, severity="warning")
    time.alerts.put(warning)
    time.silence(0, 60, "company=SIVB, severity=warning")
    time.alerts.put(msgspec.structs.replace(warning, revision=2, severity="critical"))
    assert time.at(1) == [("unsilenced", "", "firing")]


@pytest.mark.parametrize(("severity", "minutes"), [("warning", 15), ("critical", 5)])
def test_what_nobody_acknowledges_escalates_once(
    clockwork: Callable[..., Clockwork], alert: Alert, severity: str, minutes: float
) -> None:
    time = clockwork(ESCALATES)
    time.alerts.put(msgspec.structs.replace(alert, severity=severity))
    assert time.at(minutes - 0.1) == []
    assert time.at(minutes) == [("escalated", "time", "firing")]
    assert time.at(10 * minutes) == []


def test_who_acknowledges_stops_the_clock_and_who_takes_it_back_starts_it_anew(
    clockwork: Callable[..., Clockwork], alert: Alert
) -> None:
    time = clockwork(ESCALATES)
    time.alerts.put(alert)
    assert time.at(4) == []
    time.actions.acknowledge(alert.id, "anna")
    assert time.at(30) == []
    time.actions.unacknowledge(alert.id, "anna")
    assert time.at(34.9) == []
    assert time.at(35) == [("escalated", "time", "firing")]


def test_the_clock_stands_under_a_silence(clockwork: Callable[..., Clockwork], alert: Alert) -> None:
    time = clockwork(ESCALATES)
    time.alerts.put(alert)
    time.silence(0, 60)
    assert time.at(59) == []
    assert time.at(60) == [("unsilenced", "", "firing")]
    assert time.at(64.9) == []
    assert time.at(65) == [("escalated", "time", "firing")]


OFFICE = """
time_intervals:
  - {name: office, time_intervals: [{times: [{start_time: "07:00", end_time: "17:00"}]}]}
"""


@pytest.mark.parametrize("hours", ["active_time_intervals: [office]", "mute_time_intervals: [night]"])
def test_the_clock_stands_while_the_route_tells_nobody(
    clockwork: Callable[..., Clockwork], alert: Alert, hours: str
) -> None:
    night = 'times: [{start_time: "00:00", end_time: "07:00"}, {start_time: "17:00", end_time: "24:00"}]'
    more = f"{OFFICE}  - {{name: night, time_intervals: [{{{night}}}]}}"
    route = f"{{escalate_to: [boss], routes: [{{matchers: ['company=SIVB'], escalate_after: 30m, {hours}}}]}}"
    time = clockwork(route, more)
    early = alert.updated_at.replace(hour=2, minute=0)
    time.began = early
    time.alerts.put(msgspec.structs.replace(alert, started_at=early, updated_at=early))
    assert time.at(30) == time.at(300) == time.at(329.9) == []
    assert time.at(330) == [("escalated", "time", "firing")]


def test_what_came_before_the_evening_goes_on_counting_in_the_morning(
    clockwork: Callable[..., Clockwork], alert: Alert
) -> None:
    held = "escalate_after: 12h, active_time_intervals: [office]"
    route = f"{{escalate_to: [boss], routes: [{{matchers: ['company=SIVB'], {held}}}]}}"
    time = clockwork(route, OFFICE)
    late = alert.updated_at.replace(hour=16, minute=30)
    time.began = late
    time.alerts.put(msgspec.structs.replace(alert, started_at=late, updated_at=late))
    day = 24 * 60
    assert time.at(day + 29) == []  # 10 h of the next day and half an hour of the first
    assert time.at(day + 31) == []  # 17:01
    assert time.at(2 * day - 9.5 * 60 + 89) == []  # 8:29 of the third
    assert time.at(2 * day - 9.5 * 60 + 90) == [("escalated", "time", "firing")]


def test_each_minute_of_a_route_is_looked_at_once_however_long_an_alert_waits(
    clockwork: Callable[..., Clockwork], alert: Alert, monkeypatch: pytest.MonkeyPatch
) -> None:
    weekdays = OFFICE.replace("[{times", "[{weekdays: ['monday:friday'], times")
    held = "escalate_after: 8h, active_time_intervals: [office]"
    time = clockwork(f"{{escalate_to: [boss], routes: [{{matchers: ['company=SIVB'], {held}}}]}}", weekdays)
    friday = alert.updated_at.replace(year=2023, month=3, day=10, hour=16, minute=0)
    time.began = friday
    time.alerts.put(msgspec.structs.replace(alert, started_at=friday, updated_at=friday))
    looked, quiet = [], Routes.quiet

    def counted(routes: Routes, branch: Branch, minute: int) -> str:
        looked.append(minute)
        return quiet(routes, branch, minute)

    monkeypatch.setattr(Routes, "quiet", counted)
    monday = 63 * 60  # 7:00: one hour was heard
    for minute in range(monday, monday + 7 * 60):
        assert time.at(minute) == []
    assert len(looked) == len(set(looked))
    assert time.at(monday + 7 * 60) == [("escalated", "time", "firing")]


def test_without_routes_nothing_escalates(clockwork: Callable[..., Clockwork], alert: Alert) -> None:
    time = clockwork()
    time.alerts.put(alert)
    assert time.at(10_000) == []


def test_a_silence_is_forgotten_long_after_its_end(clockwork: Callable[..., Clockwork], store: redis.Redis) -> None:
    time = clockwork()
    time.silence(0, 20)
    time.at(21)
    assert store.hlen("nq:{alerts}:silences") == 1
    time.at(91 * 1_440)
    assert store.hlen("nq:{alerts}:silences") == 0


def test_times_are_aware(clockwork: Callable[..., Clockwork], alert: Alert) -> None:
    time = clockwork(ESCALATES)
    time.alerts.put(alert)
    (step,) = time.timers.step(datetime(2030, 1, 1, tzinfo=UTC))
    assert step.at == datetime(2030, 1, 1, tzinfo=UTC)


def test_of_silences_that_ended_the_last_are_kept(
    clockwork: Callable[..., Clockwork], store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timers, "MAX_ENDED", 2)
    time = clockwork()
    for number in range(4):
        time.silence(0, 10 + number, id_=f"s{number}")
    time.silence(0, 500, id_="holds")
    time.at(20)
    assert [each.id for each in Silences(store).all()] == ["holds", "s3", "s2"]
