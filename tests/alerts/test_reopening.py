"""An alert that was resolved by mistake is reopened: it fires, all who were told of its end hear of it, and it ends."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis
from prometheus_client import CollectorRegistry

from alerts.actions import MAX_STEPS, ActionError, Actions
from alerts.alert import Alert
from alerts.audit import Audit, Entry, entry
from alerts.channels.channel import HttpChannel
from alerts.channels.content import content_of
from alerts.delivery import Delivery
from alerts.dispatch import Dispatcher
from alerts.engine import AlertEngine
from alerts.life import AlertView
from alerts.listen import render
from alerts.matchers import parse
from alerts.message import body_of, decode_message
from alerts.metrics import AlertsMetrics
from alerts.notification import decode_notification
from alerts.outbox import Outbox
from alerts.rules import Rules
from alerts.rules_file import parse as parse_rules
from alerts.settings import AlertsSettings
from alerts.silences import Silence
from alerts.store import AlertStore
from alerts.timers import Timers
from alerts.told_book import ends_key
from tests.alerts.test_channels import channel

START = datetime(2026, 11, 24, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
NAMES = ("desk", "pager")
ESCALATES = "route: {receiver: desk, escalate_after: 15m, escalate_to: [pager]}"


class Office:
    """A store, people, timers, a dispatcher and one clock, in minutes since the alert fired."""

    def __init__(self, store: redis.Redis, alert: Alert, text: str = "") -> None:
        hook = {"type": "webhook", "secrets": ["whsec_" + "A" * 32]}
        hooks = [{**hook, "url": f"https://{name}.example", "name": name} for name in NAMES]
        self.settings = AlertsSettings.model_validate({"receivers": hooks})
        self.use(text)
        self.minutes, self.redis = 0.0, store
        self.alert = msgspec.structs.replace(alert, severity="warning", started_at=START, updated_at=START)
        self.store, self.outbox = AlertStore(store), Outbox(store)
        self.actions = Actions(store, self._now_s)
        self.timers = Timers(store, self.store, lambda: self.rules, calm_min=60)
        self.restart()
        self.store.put(self.alert)

    def use(self, text: str) -> None:
        self.rules = Rules(self.settings, parse_rules(text.encode(), Path("rules.yaml"), receivers=NAMES))

    def restart(self) -> None:
        self.dispatcher = Dispatcher(self.redis, lambda: self.rules, AlertsMetrics(CollectorRegistry()))

    def _now_s(self) -> float:
        return self.now.timestamp()

    @property
    def now(self) -> datetime:
        return START + self.minutes * MINUTE

    @property
    def view(self) -> AlertView:
        view = self.store.view(self.alert.id)
        assert view is not None
        return view

    def events(self) -> list[str]:
        return [step.event for step in self.view.transitions]

    def at(self, minutes: float) -> list[tuple[str, str]]:
        """Let time come so far; return what it brings, and to whom that is said."""
        self.minutes = minutes
        self.timers.step(self.now)
        while self.dispatcher.step(self.now.timestamp(), self.now.timestamp()):
            pass
        return [(each.receiver, each.event.removeprefix("alert.")) for each in self.take()]

    def take(self) -> list[Delivery]:
        found = [each for name in NAMES for each in self.outbox.due(name, self.now.timestamp() + 1, 100)]
        assert all(self.outbox.done(each, self.now.timestamp()) for each in found)
        return found

    def ends(self, **fields: Any) -> None:
        """The detector's last revision."""
        last = {"revision": self.view.alert.revision + 1, "status": "resolved", "updated_at": self.now}
        self.store.put(msgspec.structs.replace(self.alert, **last, **fields))

    def another(self, **fields: Any) -> Alert:
        """The next surge on the same series."""
        made = msgspec.structs.replace(self.alert, id="b" * 32, started_at=self.now, updated_at=self.now, **fields)
        self.store.put(made)
        return made


@pytest.fixture
def office(store: redis.Redis, alert: Alert) -> Office:
    return Office(store, alert)


def test_it_fires_again_as_the_same_alert_with_who_and_why(office: Office) -> None:
    office.actions.acknowledge(office.alert.id, "anna")
    office.actions.resolve(office.alert.id, "ben", "the wrong one")
    office.minutes = 30
    note = entry("ben", "reopen", target=office.alert.id)
    step = office.actions.reopen(office.alert.id, "ben", "it was the other", note=note)
    life = office.view.life
    assert (step.event, step.state, step.actor, step.reason, step.at) == (
        "reopened", "firing", "ben", "it was the other", office.now,
    )  # fmt: skip
    assert (life.state, life.since, life.actor, life.unheard_since) == ("firing", office.now, "ben", office.now)
    assert office.store.log(1) == [step]
    assert [msgspec.convert(each, Entry, from_attributes=True) for each in Audit(office.redis).last()] == [note]
    office.ends()
    assert office.events() == ["firing", "acknowledged", "resolved", "reopened", "resolved"]
    assert office.store.views() == office.store.lives() == []


def test_under_one_key_it_happens_once_and_a_second_person_is_told(office: Office) -> None:
    office.actions.resolve(office.alert.id, "ben")
    first = office.actions.reopen(office.alert.id, "ben", key="click")
    assert office.actions.reopen(office.alert.id, "ben", key="click") == first
    with pytest.raises(ActionError, match="SIVB: the alert is not resolved"):
        office.actions.reopen(office.alert.id, "anna")
    assert office.events() == ["firing", "resolved", "reopened"]


def test_while_its_surge_goes_on_it_can_be_reopened_and_for_an_hour_after(office: Office) -> None:
    office.actions.resolve(office.alert.id, "ben")
    office.minutes = 5_000
    office.actions.reopen(office.alert.id, "ben")
    office.actions.resolve(office.alert.id, "ben")
    office.ends()
    office.minutes += 60
    office.actions.reopen(office.alert.id, "ben")
    office.actions.resolve(office.alert.id, "ben")
    office.minutes += 60.1
    with pytest.raises(ActionError, match=r"was resolved by ben at .* its surge is over since: after an hour"):
        office.actions.reopen(office.alert.id, "ben")


def test_what_nobody_resolved_by_hand_is_not_reopened(office: Office) -> None:
    office.ends()
    with pytest.raises(ActionError, match="and nobody resolved it by hand"):
        office.actions.reopen(office.alert.id, "ben")
    assert office.store.reopened() == []


def test_by_hand_it_is_not_reopened_without_end(office: Office) -> None:
    for _ in range(MAX_STEPS // 2):
        office.actions.resolve(office.alert.id, "ben")
        office.actions.reopen(office.alert.id, "ben")
    with pytest.raises(ActionError, match="no more by hand"):
        office.actions.resolve(office.alert.id, "ben")


def test_reopened_after_its_end_it_is_open_for_people_alone_and_ends_when_it_has_been_calm(office: Office) -> None:
    office.actions.resolve(office.alert.id, "ben")
    office.ends()
    office.minutes = 10
    office.actions.reopen(office.alert.id, "ben")
    assert [view.alert.id for view in office.store.views()] == [office.alert.id]
    assert [life.state for life in office.store.lives()] == ["firing"]
    assert office.store.open() == []  # its detector has done with it
    assert office.timers.needed()
    office.at(40)
    office.actions.acknowledge(office.alert.id, "ben")
    office.at(69.9)
    assert office.view.life.state == "acknowledged"
    office.at(70)
    last = office.view.transitions[-1]
    assert (last.event, last.actor, last.reason) == (
        "resolved", "newsquake", "its surge is over, and it was reopened 1:00:00 ago",
    )  # fmt: skip
    assert office.store.lives() == office.store.reopened() == []
    assert not office.timers.needed()
    with pytest.raises(ActionError, match="nobody resolved it by hand"):
        office.actions.reopen(office.alert.id, "ben")


def test_what_surges_on_takes_no_end_from_time(office: Office) -> None:
    office.actions.resolve(office.alert.id, "ben")
    office.actions.reopen(office.alert.id, "ben")
    office.at(5_000)
    assert office.view.life.state == "firing"


@pytest.mark.parametrize("resolved", [False, True], ids=["open", "resolved by hand while it surges"])
def test_when_another_alert_tells_of_its_series_that_one_is_named(office: Office, resolved: bool) -> None:
    office.actions.resolve(office.alert.id, "ben")
    office.ends()
    office.minutes = 20
    other = office.another()
    if resolved:
        office.actions.resolve(other.id, "ben")
    with pytest.raises(ActionError, match="another alert tells of company=SIVB since 2026-11-24 12:20 UTC") as refused:
        office.actions.reopen(office.alert.id, "ben")
    assert refused.value.alert == other.id
    assert other.id in str(refused.value)
    assert office.events() == ["firing", "resolved"]


def test_what_surges_anew_takes_over_from_one_that_was_reopened(office: Office) -> None:
    office.actions.resolve(office.alert.id, "ben")
    office.ends()
    office.actions.reopen(office.alert.id, "ben")
    office.minutes = 5
    other = office.another()
    office.at(5)
    assert office.view.transitions[-1].reason == f"another alert tells of it by now ({other.id})"
    assert [life.alert for life in office.store.lives()] == [other.id]


def test_the_end_of_its_surge_between_the_reading_and_the_writing_leaves_nothing_open(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    office.actions.resolve(office.alert.id, "ben")
    real, ended = AlertStore._read, list[int]()

    def read(self: AlertStore, alert_id: str) -> Any:
        found = real(self, alert_id)
        if not ended:
            ended.append(1)
            office.ends()
        return found

    monkeypatch.setattr(AlertStore, "_read", read)
    office.actions.reopen(office.alert.id, "ben")
    monkeypatch.undo()
    assert office.store.reopened() == [office.alert.id]
    office.at(60)
    assert office.store.lives() == office.store.reopened() == []


def test_a_silence_covers_it_and_one_that_ended_does_not(office: Office) -> None:
    def silence(id_: str, last: float) -> Silence:
        return Silence(
            id=id_, matchers=parse("company=SIVB"), starts_at=office.now, ends_at=START + last * MINUTE,
            author="anna", reason="known", created_at=office.now,
        )  # fmt: skip

    office.actions.silence(silence("one", 10), "anna")
    office.actions.resolve(office.alert.id, "ben")
    office.ends()
    office.minutes = 20
    office.actions.reopen(office.alert.id, "ben")
    office.at(21)
    assert (office.view.life.silence, office.view.life.unheard_since) == ("", office.now)
    assert len(office.actions.silence(silence("two", 50), "anna")) == 1
    assert office.view.life.silence == "two"
    office.at(50)
    assert office.view.life.silence == ""


def test_who_was_told_of_its_end_is_told_that_it_fires_and_the_clock_begins_anew(
    store: redis.Redis, alert: Alert
) -> None:
    office = Office(store, alert, ESCALATES)
    assert office.at(0) == [("desk", "firing")]
    assert office.at(15) == [("pager", "escalated")]
    office.actions.resolve(office.alert.id, "ben")
    assert office.at(16) == [("desk", "resolved"), ("pager", "resolved")]
    office.actions.reopen(office.alert.id, "ben", "the wrong one")
    assert office.at(17) == [("desk", "firing"), ("pager", "firing")]
    assert office.at(30.9) == []
    assert office.at(31.0) == [("pager", "escalated")]
    office.ends()
    assert office.at(32) == [("desk", "resolved"), ("pager", "resolved")]


def test_who_was_not_told_of_its_end_yet_is_told_nothing(store: redis.Redis, alert: Alert) -> None:
    office = Office(store, alert, "route: {receiver: desk, group_wait: 0s, group_interval: 10m, group_by: []}")
    assert office.at(0) == [("desk", "firing")]
    office.actions.resolve(office.alert.id, "ben")
    assert office.at(1) == []
    office.actions.reopen(office.alert.id, "ben")
    assert office.at(2) == office.at(20) == []
    office.ends()
    assert office.at(30) == [("desk", "resolved")]


@pytest.mark.parametrize("at_once", [False, True], ids=["told one by one", "read in one"])
def test_that_it_fires_again_does_not_overtake_its_end(office: Office, at_once: bool) -> None:
    office.at(0)
    office.actions.resolve(office.alert.id, "ben")
    now_s = office.now.timestamp()
    if not at_once:
        office.dispatcher.step(now_s, now_s)
    office.actions.reopen(office.alert.id, "ben")
    office.dispatcher.step(now_s, now_s)
    for name in NAMES:
        [end] = office.outbox.due(name, now_s + 1)
        assert end.event == "alert.resolved"
        office.outbox.retry(end, now_s + 500, now_s)  # the receiver was away
        assert office.outbox.due(name, now_s + 499) == []
        assert [each.event for each in office.outbox.due(name, now_s + 501, 10)] == ["alert.resolved", "alert.firing"]
    assert office.redis.ttl(ends_key(office.alert.id)) > 7 * 86_400
    assert office.dispatcher._book is not None
    assert not office.dispatcher._book.ended


def test_messages_say_who_reopened_it_and_of_a_surge_that_is_over_what_it_was(office: Office) -> None:
    office.at(0)
    office.actions.resolve(office.alert.id, "ben")
    office.ends(summary="SIVB: over after 20 minutes", resolved_at=office.now)
    office.at(1)
    office.actions.reopen(office.alert.id, "ben", "the wrong one")
    now_s = office.now.timestamp()
    office.dispatcher.step(now_s, now_s)
    told = decode_notification(office.take()[0].body)
    assert (told.event, told.by[office.alert.id].did) == ("alert.firing", "reopened")
    assert (told.alerts[0].status, told.alerts[0].resolved_at) == ("firing", None)
    content = content_of(told)
    assert content.parts[0].facts[0] == ("Reopened", "by ben at 12:01 UTC: the wrong one")
    assert content.parts[0].sentence == "SIVB: over after 20 minutes"
    assert content.mood == "warning"
    assert "reopened by ben at 12:01 UTC: the wrong one" in render(decode_message(body_of(told))).plain


@pytest.mark.parametrize("over", [False, True])
def test_it_comes_back_as_it_was_when_redis_has_lost_it(office: Office, over: bool) -> None:
    office.actions.resolve(office.alert.id, "ben")
    if over:
        office.ends()
    office.actions.reopen(office.alert.id, "ben")
    view, lives = office.view, office.store.lives()
    office.redis.flushall()
    assert office.store.restore(view)
    assert office.view == view
    assert office.store.lives() == lives
    assert office.store.reopened() == [office.alert.id] * over
    assert [alert.id for alert in office.store.open()] == [office.alert.id] * (not over)


def test_two_that_lead_end_it_once(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    office.actions.resolve(office.alert.id, "ben")
    office.ends()
    office.actions.reopen(office.alert.id, "ben")
    office.minutes = 61
    real, others = AlertStore._read, [office.timers.step]

    def read(self: AlertStore, alert_id: str) -> Any:
        found = real(self, alert_id)
        while others:
            others.pop()(office.now)
        return found

    monkeypatch.setattr(AlertStore, "_read", read)
    assert office.timers.step(office.now) == ()
    assert office.events() == ["firing", "resolved", "reopened", "resolved"]


def test_by_the_items_clock_it_ends_at_its_minute_though_nothing_else_is_open(office: Office, one_server: str) -> None:
    office.actions.resolve(office.alert.id, "ben")
    office.ends()
    office.minutes = 10
    office.actions.reopen(office.alert.id, "ben")
    settings = AlertsSettings.model_validate({"clock": "event", "grace_s": 0})
    engine = AlertEngine(
        settings, redis_url=one_server, documents_topic="documents", partitions=1, registry=CollectorRegistry()
    )
    for minutes in (20, 300):
        clock_ms = int((START + minutes * MINUTE).timestamp() * 1_000)
        office.redis.hset("nq:{documents-0}:progress", mapping={"offset": 1, "clock_ms": clock_ms})
        while engine.tick():
            pass
        assert (office.view.life.state == "resolved") == (minutes == 300)
    engine.close()
    assert office.view.transitions[-1].at == START + 70 * MINUTE


@pytest.mark.parametrize("severity", ["warning", "critical"])
def test_pagerduty_and_alertmanager_have_it_open_again_as_the_same(office: Office, severity: str) -> None:
    if severity == "critical":
        office.store.put(msgspec.structs.replace(office.alert, revision=2, severity="critical"))
    office.at(0)
    office.actions.resolve(office.alert.id, "ben")
    office.at(1)
    office.actions.reopen(office.alert.id, "ben")
    now_s = office.now.timestamp()
    office.dispatcher.step(now_s, now_s)
    told = decode_notification(office.take()[0].body)
    pager, manager = channel("pagerduty", "https://pager.example"), channel("alertmanager", "https://manager.example")
    assert isinstance(pager, HttpChannel)
    assert isinstance(manager, HttpChannel)
    [event] = [json.loads(each.body) for each in pager.requests(told, office.now)]
    assert (event["event_action"], event["dedup_key"]) == ("trigger", office.alert.id)
    [[posted]] = [json.loads(each.body) for each in manager.requests(told, office.now)]
    assert (posted["labels"]["alert_id"], posted["labels"]["severity"]) == (office.alert.id, severity)
    assert datetime.fromisoformat(posted["endsAt"]) > office.now
