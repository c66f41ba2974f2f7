"""From the log to the outbox: nothing lost, nothing twice, whatever fails between."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis
from prometheus_client import CollectorRegistry

from alerts.actions import Actions
from alerts.alert import Alert, By
from alerts.dispatch import Dispatcher
from alerts.groups import Known
from alerts.matchers import parse
from alerts.metrics import AlertsMetrics
from alerts.notification import Notification, as_told, decode_notification
from alerts.outbox import Outbox
from alerts.rules import Rules
from alerts.rules_file import parse as parse_rules
from alerts.settings import AlertsSettings
from alerts.silences import Silence, Silences
from alerts.store import FENCE, LOG, AlertStore, FencedError
from alerts.told_book import ALERTS, CURSOR, GROUPS, MovedError

START_S = datetime(2026, 11, 24, 12, tzinfo=UTC).timestamp()
NAMES = ("desk", "risk")
SECRET = "whsec_" + "A" * 32


class Office:
    """A store of alerts, a dispatcher and a clock."""

    def __init__(self, store: redis.Redis, alert: Alert, text: str = "", receivers: tuple[str, ...] = NAMES) -> None:
        hooks = [
            {"type": "webhook", "url": f"https://{name}.example", "secrets": [SECRET], "name": name}
            for name in receivers
        ]
        self.settings = AlertsSettings.model_validate({"receivers": hooks})
        self.redis, self.alert, self.now_s = store, alert, START_S
        self.store, self.outbox = AlertStore(store), Outbox(store)
        self.actions = Actions(store, clock=lambda: self.now_s)
        self.registry = CollectorRegistry()
        self.metrics = AlertsMetrics(self.registry)
        self.got: list[Notification] = []
        self.use(text)
        self.start()

    def use(self, text: str) -> None:
        self.rules = Rules(self.settings, parse_rules(text.encode(), Path("rules.yaml"), receivers=NAMES))

    def start(self, token: Callable[[], str] = str) -> None:
        self.dispatcher = Dispatcher(self.redis, lambda: self.rules, self.metrics, token)

    def put(self, name: str, revision: int = 1, **fields: Any) -> None:
        at = datetime.fromtimestamp(self.now_s, UTC)
        plain = {"severity": "warning", "series": f"company={name}", "name": name, "started_at": at, "updated_at": at}
        self.store.put(msgspec.structs.replace(self.alert, id=name, revision=revision, **{**plain, **fields}))

    def step(self, wait_s: float = 0) -> None:
        self.now_s += wait_s
        while self.dispatcher.step(self.now_s, self.now_s):
            pass

    def news(self) -> list[tuple[str, str, str]]:
        found = []
        for name in NAMES:
            for delivery in self.outbox.due(name, max(self.now_s, time.time()) + 1, 1_000):
                assert self.outbox.done(delivery, self.now_s)
                told = decode_notification(delivery.body)
                assert told.id == delivery.id
                self.got.append(told)
                found.append((name, told.event.removeprefix("alert."), "+".join(alert.id for alert in told.alerts)))
        assert len({told.id for told in self.got}) == len(self.got)
        return found


@pytest.fixture
def office(store: redis.Redis, alert: Alert) -> Office:
    return Office(store, alert)


def test_each_transition_is_told_as_it_was_even_when_all_is_read_late(office: Office) -> None:
    office.put("A")
    office.put("A", 2, severity="critical")
    office.actions.acknowledge("A", "jane")
    office.put("A", 3, status="resolved", summary="over", resolved_at=datetime.fromtimestamp(START_S, UTC))
    office.step()
    events = ["firing", "escalated", "acknowledged", "resolved"]
    assert office.news() == [(name, event, "A") for name in NAMES for event in events]
    told = [note.alerts[0] for note in office.got if note.receiver == "desk"]
    assert [(each.status, each.severity, each.revision) for each in told] == [
        ("firing", "warning", 1),
        ("firing", "critical", 2),
        ("firing", "critical", 2),
        ("resolved", "critical", 3),
    ]
    assert office.registry.get_sample_value("newsquake_alerts_notifications_total", {"event": "alert.firing"}) == 2
    office.step(10_000)
    assert office.news() == []


def test_who_did_it_by_hand_is_told(office: Office) -> None:
    at = [datetime.fromtimestamp(START_S + 60 * minute, UTC) for minute in range(5)]
    office.put("A")
    office.step(60)
    office.actions.acknowledge("A", "ana", "calling the bank")
    office.step(60)
    office.actions.unacknowledge("A", "ben")
    office.step(60)
    office.put("A", 2, severity="critical")  # it grew, whoever did something before
    office.step(60)
    office.actions.resolve("A", "ana", "over")
    office.step(60)
    office.news()
    assert [(note.event, note.by) for note in office.got if note.receiver == "desk"] == [
        ("alert.firing", {}),
        ("alert.acknowledged", {"A": By(actor="ana", at=at[1], reason="calling the bank", did="acknowledged")}),
        ("alert.firing", {"A": By(actor="ben", at=at[2], did="unacknowledged")}),
        ("alert.escalated", {}),
        ("alert.resolved", {"A": By(actor="ana", at=at[4], reason="over", did="resolved")}),
    ]


def test_a_delivery_waits_for_those_before_it_about_the_same_alerts(office: Office) -> None:
    office.put("A")
    office.step()
    office.put("A", 2, status="resolved")
    office.step()
    [first] = office.outbox.due("desk", office.now_s)
    assert first.event == "alert.firing"
    office.outbox.retry(first, office.now_s + 500, office.now_s)
    assert office.outbox.due("desk", office.now_s + 499) == []
    assert [each.event for each in office.outbox.due("desk", office.now_s + 501)] == ["alert.firing"]


def test_silences_hold_back_and_let_go(office: Office) -> None:
    at = datetime.fromtimestamp(START_S, UTC)
    silence = Silence(
        id="s", matchers=parse("company=~A|B"), starts_at=at, ends_at=at + timedelta(hours=1), author="jane",
        reason="known", created_at=at,
    )  # fmt: skip
    office.put("A")
    office.step()
    assert len(office.news()) == 2
    office.actions.silence(silence, "jane")
    office.put("A", 2, severity="critical")
    office.put("B")
    office.put("C")
    office.step(60)
    assert office.news() == [("desk", "firing", "C"), ("risk", "firing", "C")]
    office.put("A", 3, status="resolved")
    office.step(60)
    office.start()
    office.step(60)
    assert office.news() == []
    office.actions.expire_silence("s", "jane")
    office.step(60)
    assert sorted(office.news()) == sorted(
        [(name, event, alert) for name in NAMES for event, alert in (("resolved", "A"), ("firing", "B"))]
    )


def test_hours_hold_back_until_they_begin(office: Office) -> None:
    office.use(
        "time_intervals: [{name: late, time_intervals: [{times: [{start_time: '13:00', end_time: '14:00'}]}]}]\n"
        "route: {receivers: [], routes: [{receiver: desk, matchers: [kind=company], active_time_intervals: [late]}]}"
    )
    office.put("A")
    office.step(3_599)
    assert office.news() == []
    office.step(31)
    assert office.news() == [("desk", "firing", "A")]


def test_a_group_has_a_key_and_an_alert_alone_has_none(office: Office) -> None:
    office.put("A")
    office.step()
    office.news()
    assert {(told.group, tuple(told.group_labels)) for told in office.got} == {("", ())}
    office.got.clear()
    office.use(
        "route: {receiver: desk, group_by: [], group_wait: 0s, routes: [{matchers: [name=~C], group_by: [name]}]}"
    )
    office.put("B")
    office.put("C")
    office.step()
    office.news()
    assert [(told.group, told.group_labels) for told in office.got] == [
        ("desk:{}:{}", {}),
        ("desk:{}/{name=~\"C\"}:{name='C'}", {"name": "C"}),
    ]


def test_rules_that_change_bring_in_others_and_forget_nobody(office: Office) -> None:
    office.use("route: {receiver: desk}")
    office.put("A")
    office.step()
    assert office.news() == [("desk", "firing", "A")]
    office.use("route: {receiver: risk}")
    office.step()
    assert office.news() == [("risk", "firing", "A")]
    assert office.got[-1].why == "the route in line 1"
    office.put("A", 2, status="resolved")
    office.step()
    assert office.news() == [("desk", "resolved", "A"), ("risk", "resolved", "A")]


def test_who_does_not_lead_writes_nothing(office: Office) -> None:
    office.redis.set(FENCE, "8")
    office.start(lambda: "7")
    office.put("A")
    with pytest.raises(FencedError):
        office.step()
    assert office.news() == []
    office.start(lambda: "8")
    office.step()
    assert len(office.news()) == 2


def test_two_that_dispatch_do_not_both_tell(office: Office) -> None:
    office.put("A")
    office.step()
    other = Dispatcher(office.redis, lambda: office.rules, office.metrics)
    other.step(office.now_s, office.now_s)
    office.put("B")
    other.step(office.now_s, office.now_s)
    office.put("C")
    office.redis.xtrim(LOG, maxlen=1)
    with pytest.raises(MovedError):
        office.dispatcher.step(office.now_s, office.now_s)
    office.step()
    assert sorted(office.news()) == [(name, "firing", alert) for name in NAMES for alert in "ABC"]


def test_what_is_no_transition_is_skipped(office: Office, caplog: pytest.LogCaptureFixture) -> None:
    office.redis.xadd(LOG, {"line": "rubbish"})
    office.put("A")
    office.redis.xadd(LOG, {"other": "rubbish"})
    office.step()
    assert len(office.news()) == 2
    assert caplog.text.count("is no transition and is passed over") == 2


def test_a_log_that_was_cut_is_made_up_for_by_what_stands(office: Office) -> None:
    office.put("A")
    office.put("B")
    office.step()
    office.news()
    office.put("A", 2, status="resolved")
    office.put("C")
    office.put("D")
    office.put("E")
    office.put("E", 2, status="resolved")
    office.redis.xtrim(LOG, maxlen=1, approximate=False)
    office.start()
    office.step()
    assert sorted(office.news()) == sorted(
        [
            (name, event, alert)
            for name in NAMES
            for event, alert in (("resolved", "A"), ("firing", "C"), ("firing", "D"))
        ]
    )


def test_state_lost_with_the_log_kept_repeats_under_the_same_ids(office: Office) -> None:
    office.put("A")
    office.step()
    office.news()
    for key in office.redis.scan_iter("nq:{alerts}:dispatch:*"):
        office.redis.delete(key)
    before = {told.id for told in office.got}
    office.got.clear()
    office.start()
    office.step()
    office.news()
    assert {told.id for told in office.got} == before


@pytest.mark.parametrize("seed", range(3))
def test_crashes_anywhere_lose_and_repeat_nothing(store: redis.Redis, alert: Alert, seed: int) -> None:
    """Each call to Redis may fail, before or after the server did it; each time the dispatcher starts anew."""
    rng = random.Random(seed)
    office = Office(
        store, alert, "route: {group_by: [kind], group_wait: 20s, group_interval: 60s, repeat_interval: 10m}"
    )

    class Failing(redis.Redis):
        def execute_command(self, *args: Any, **options: Any) -> Any:
            if rng.random() < 0.05:
                raise redis.ConnectionError("before")
            answer = super().execute_command(*args, **options)  # type: ignore[no-untyped-call]  # of redis, which leaves it untyped
            if rng.random() < 0.05:
                raise redis.ConnectionError("after")
            return answer

    pool = store.connection_pool.connection_kwargs
    with Failing(host=pool["host"], port=pool["port"]) as failing:
        revisions: dict[str, int] = {}
        failures = 0
        for turn in range(150):
            name = f"A{rng.randrange(5)}"
            if turn < 130 and rng.random() < 0.5:
                revisions[name] = revisions.get(name, 0) + 1
                office.put(name, revisions[name], severity=rng.choice(["warning", "critical"]))
            elif turn == 130:
                for name, revision in revisions.items():
                    office.put(name, revision + 1, status="resolved", severity="critical")
            office.dispatcher = Dispatcher(failing, lambda: office.rules, office.metrics)
            try:
                office.step(20)
            except redis.ConnectionError:
                failures += 1
        office.start()
        office.step(1_000)
    office.news()
    assert failures > 20
    for receiver in NAMES:
        told: dict[str, list[str]] = {}
        for note in (note for note in office.got if note.receiver == receiver):
            for each in note.alerts:
                told.setdefault(each.id, []).append(note.event.removeprefix("alert."))
        assert set(told) == set(revisions)
        for events in told.values():
            assert events[0] == "firing"
            assert events.count("firing") == events.count("resolved") == 1
            assert events.count("escalated") <= 1
            assert events[-1] == "resolved"


def test_an_alert_that_people_ended_is_told_as_ended(alert: Alert) -> None:
    known = Known("a", "k", "resolved", "critical", START_S, alert.revision, "ended")
    told = as_told(alert, known)
    assert (told.status, told.summary) == ("resolved", alert.summary)
    assert told.resolved_at == datetime.fromtimestamp(START_S, UTC)


def test_the_thread_goes_on_after_failures_and_ends_when_another_leads(office: Office) -> None:
    asked: list[int] = []

    def now() -> float:
        asked.append(1)
        if len(asked) == 1:
            raise redis.ConnectionError("away")
        if len(asked) == 2:
            assert "away" in office.dispatcher.failing
            office.put("A")
        if len(asked) == 3:
            assert office.dispatcher.failing == ""
            office.redis.set(FENCE, "8")
            office.put("B")
        return office.now_s

    office.redis.set(FENCE, "7")
    office.start(lambda: "7")
    office.dispatcher.run(threading.Event(), now, poll_s=0.01)
    assert office.news() == [(name, "firing", "A") for name in NAMES]
    assert office.registry.get_sample_value("newsquake_alerts_redis_errors_total") == 1


def test_the_cursor_stands_at_the_end(office: Office) -> None:
    office.put("A")
    office.step()
    last: Any = office.redis.xrevrange(LOG, count=1)
    assert office.redis.get(CURSOR) == last[0][0]


def test_each_transition_is_counted_once_and_the_time_to_acknowledge_is_known(store: redis.Redis, alert: Alert) -> None:
    office = Office(store, alert)
    office.put("SIVB")
    office.put("JPM")
    office.step(90)
    office.actions.acknowledge("SIVB", "jo")
    office.step()
    office.start()  # again, from what is stored
    office.step()
    value = office.registry.get_sample_value
    assert value("newsquake_alerts_transitions_total", {"event": "firing"}) == 2
    assert value("newsquake_alerts_transitions_total", {"event": "acknowledged"}) == 1
    assert value("newsquake_alerts_transitions_total", {"event": "resolved"}) == 0
    assert value("newsquake_alerts_acknowledge_seconds_sum") == 90
    assert value("newsquake_alerts_acknowledge_seconds_count") == 1
    office.actions.resolve("SIVB", "jo")
    office.now_s += 5_000
    office.actions.reopen("SIVB", "jo")
    office.now_s += 7
    office.actions.acknowledge("SIVB", "jo")
    office.step()
    assert office.registry.get_sample_value("newsquake_alerts_acknowledge_seconds_sum") == 90 + 7


def test_thousands_of_deliveries_at_once(store: redis.Redis, alert: Alert) -> None:
    names = tuple(f"desk{number}" for number in range(30))
    office = Office(store, alert, receivers=names)
    at = datetime.fromtimestamp(START_S, UTC)
    until = at + timedelta(hours=1)
    silence = Silence(
        id="night", matchers=parse("kind=company"), starts_at=at, ends_at=until, author="ann", reason="r", created_at=at
    )
    office.actions.silence(silence, "ann")
    for number in range(270):
        office.put(f"C{number}")
    office.step()
    assert office.outbox.waiting(names[0])[0] == 0
    office.step(3_601)  # the silence has ended: all are due in one step
    assert {office.outbox.waiting(name)[0] for name in names} == {270}


def test_an_alert_that_cannot_be_read_holds_up_no_other(store: redis.Redis, alert: Alert) -> None:
    office = Office(store, alert)
    office.step()
    office.put("C")
    office.put("JPM")
    store.set("nq:{alerts}:alert:C", b"{}")
    office.step()
    assert office.news() == [("desk", "firing", "JPM"), ("risk", "firing", "JPM")]


def test_what_cannot_be_read_of_the_book_is_noted_anew_and_holds_up_no_other(office: Office) -> None:
    for name in ("A", "B", "C", "D", "E"):
        office.put(name)
    office.step()
    office.news()
    office.actions.acknowledge("B", "ann")
    office.step()
    office.news()
    before = {told.id for told in office.got}
    for name in ("A", "B", "E"):
        office.redis.hset(ALERTS, name, b"{}")
    for group in office.redis.hkeys(GROUPS):
        if b"alert=C" in group or b"alert=D" in group:
            office.redis.hset(GROUPS, group, b"\xff")
    office.put("E", 2, status="resolved")
    office.start()
    office.got.clear()
    office.step()
    # Who was told that E fires may be told so once more, and is told of its end.
    assert sorted(office.news()) == sorted(
        (name, event, alert)
        for name in NAMES
        for event, alert in (("firing", "A"), ("acknowledged", "B"), ("firing", "E"), ("resolved", "E"))
    )
    assert {told.id for told in office.got if told.event != "alert.resolved"} <= before
    for name in ("A", "B", "C", "D"):
        office.put(name, 2, status="resolved")
        office.step()
        assert office.news() == [(receiver, "resolved", name) for receiver in NAMES]
    assert office.redis.hgetall(ALERTS) == {}
    assert office.redis.hgetall(GROUPS) == {}


def test_an_old_copy_that_was_made_up_for_tells_nothing_anew_and_each_end(office: Office) -> None:
    """Redis is restored from a copy; what came since is put back from Kafka before alerting starts."""
    for name in ("A", "B"):
        office.put(name)
    office.step()
    office.news()
    copy = {key: office.redis.dump(key) for key in office.redis.scan_iter()}
    office.put("A", 2, status="resolved")
    office.put("C")
    office.actions.acknowledge("B", "ann")
    office.step()
    office.news()
    views = office.store.views(open=False)
    office.redis.flushall()
    for key, value in copy.items():
        office.redis.restore(key, 0, value)
    assert all(office.store.restore(view) for view in views)
    office.start()
    office.got.clear()
    office.step(100)
    assert office.news() == []
    office.step(100_000)
    assert office.news() == []
    for name in ("B", "C"):
        office.put(name, 2, status="resolved")
        office.step()
        assert office.news() == [(receiver, "resolved", name) for receiver in NAMES]


def test_alerts_that_were_put_back_are_told_of_when_they_end(store: redis.Redis, alert: Alert) -> None:
    office = Office(store, alert)
    for name in ("C", "JPM", "WFC"):
        office.put(name)
    office.actions.acknowledge("JPM", "ann")
    at = datetime.fromtimestamp(START_S, UTC)
    silence = Silence(
        id="s", matchers=parse("company=WFC"), starts_at=at, ends_at=at + timedelta(hours=1), author="ann",
        reason="known", created_at=at,
    )  # fmt: skip
    office.actions.silence(silence, "ann")
    views = office.store.views()
    store.flushall()  # and all is put back from Kafka
    for view in views:
        office.store.restore(view)
    Silences(store).put(silence)
    office.start()
    office.step()
    assert office.news() == [("desk", "repeated", "C"), ("risk", "repeated", "C")]
    office.step(3_630)  # nobody may have been told of what was silenced at once
    assert office.news() == [("desk", "firing", "WFC"), ("risk", "firing", "WFC")]
    office.put("C", 2, severity="critical")
    office.step()
    assert office.news() == [("desk", "escalated", "C"), ("risk", "escalated", "C")]
    office.start()
    for name in ("C", "JPM"):
        office.put(name, 3, status="resolved")
        office.step()
        assert office.news() == [("desk", "resolved", name), ("risk", "resolved", name)]
