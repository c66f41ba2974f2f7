"""Redis is lost and filled again from what Kafka holds: from then on receivers are told what they would have been."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis
from prometheus_client import CollectorRegistry

from alerts.actions import ActionError, Actions
from alerts.alert import Alert
from alerts.dispatch import Dispatcher
from alerts.life import SEVERITIES, AlertView
from alerts.matchers import parse
from alerts.metrics import AlertsMetrics
from alerts.notification import decode_notification
from alerts.outbox import Outbox
from alerts.rules import Rules
from alerts.rules_file import parse as parse_rules
from alerts.settings import AlertsSettings
from alerts.silences import Silence, Silences, silence_over
from alerts.store import AlertStore
from alerts.timers import Timers

START_S = datetime(2026, 11, 24, 12, tzinfo=UTC).timestamp()
NAMES = ("desk", "risk", "boss")
ROUTES = """
route: {receiver: desk, escalate_after: 30m, escalate_to: [boss],
        routes: [{matchers: ['severity=critical'], receivers: [risk, desk]}]}
"""
PAUSE_S = 180


class Office:
    """All that leads to deliveries, on one Redis, with a clock that tests move."""

    def __init__(self, store: redis.Redis, alert: Alert) -> None:
        hooks = [
            {"type": "webhook", "url": f"https://{name}.example", "secrets": ["whsec_" + "A" * 32], "name": name}
            for name in NAMES
        ]
        settings = AlertsSettings.model_validate({"receivers": hooks})
        self.rules = Rules(settings, parse_rules(ROUTES.encode(), Path("rules.yaml"), receivers=NAMES))
        self.redis, self.alert, self.now_s = store, alert, START_S
        self.revisions: dict[str, int] = {}
        self.silences = self.episode = 0
        self.published: dict[str, AlertView] = {}
        self._start()

    def _start(self) -> None:
        self.store, self.outbox = AlertStore(self.redis), Outbox(self.redis)
        self.actions = Actions(self.redis, lambda: self.now_s)
        self.timers = Timers(self.redis, self.store, lambda: self.rules, calm_min=60)
        self.dispatcher = Dispatcher(self.redis, lambda: self.rules, AlertsMetrics(CollectorRegistry()))

    @property
    def at(self) -> datetime:
        return datetime.fromtimestamp(self.now_s, UTC)

    def lose_redis(self) -> None:
        """Lose all; what Kafka has of it is put back, and what fires without a course ends."""
        views, silences = self.store.views(open=False), Silences(self.redis).all()
        self.publish()
        self.redis.flushall()
        self._start()
        for view in self.published.values():
            self.store.restore(view)
        for silence in silences:
            Silences(self.redis).put(silence)
        for view in views:
            if view.alert.status == "resolved":
                self.store.put(view.alert)

    def publish(self) -> None:
        """What Kafka has: alerts as they are with their last transition."""
        for view in self.store.views(open=False):
            known = self.published.get(view.alert.id)
            if known is None or len(known.transitions) < len(view.transitions):
                self.published[view.alert.id] = view

    def put(self, name: str, **fields: Any) -> None:
        self.revisions[name] = self.revisions.get(name, 0) + 1
        plain = {"severity": "warning", "series": f"company={name}", "name": name, "started_at": self.at}
        plain |= {"id": name, "revision": self.revisions[name], "updated_at": self.at}
        made = msgspec.structs.replace(self.alert, **{**plain, **fields})
        self.store.put(made, silence=silence_over(Silences(self.redis).all(), made, self.at))

    def over(self, name: str) -> None:
        """The detector's end; what comes next is another episode."""
        if name in self.revisions:
            self.put(name, status="resolved", resolved_at=self.at)
            self.episode += 1

    def silence(self, name: str, minutes: int) -> None:
        self.silences += 1
        silence = Silence(
            id=f"s{self.silences}", matchers=parse(f"company=~{name}.*"), starts_at=self.at, author="ann", reason="r",
            ends_at=self.at + timedelta(minutes=minutes), created_at=self.at,
        )  # fmt: skip
        self.actions.silence(silence, "ann")

    def news(self) -> list[tuple[str, str, str]]:
        """Let time pass, and return what everybody is told."""
        found: list[tuple[str, str, str]] = []
        self.publish()
        for _ in range(PAUSE_S // 60):
            self.now_s += 60
            self.timers.step(self.at)
            while self.dispatcher.step(self.now_s, self.now_s):
                pass
            for name in NAMES:
                for delivery in self.outbox.due(name, self.now_s + 10, 1_000):
                    assert self.outbox.done(delivery, self.now_s)
                    told = decode_notification(delivery.body)
                    found += [(name, told.event, f"{each.id} {each.severity}") for each in told.alerts]
        return sorted(found)


def _deed(office: Office, rng: random.Random) -> None:
    name = rng.choice("AB") + str(office.episode)
    before = [f"{letter}{office.episode - 1}" for letter in "AB"]  # the alerts of the last episode, if it has ended
    deeds: list[Callable[[], object]] = [
        lambda: office.put(name, severity=rng.choice(SEVERITIES)),
        lambda: office.put(name, severity=rng.choice(SEVERITIES)),
        lambda: office.over(name),
        lambda: office.actions.acknowledge(name, "ann"),
        lambda: office.actions.unacknowledge(name, "ann"),
        lambda: office.actions.unacknowledge(name, "ann"),
        lambda: office.actions.resolve(name, "ann"),
        lambda: office.actions.reopen(name, "ann"),
        lambda: office.actions.reopen(rng.choice(before), "ann"),
        lambda: office.actions.annotate(name, "ann", "as we know"),
        lambda: office.silence(name[0], rng.choice([7, 20])),
    ]
    with contextlib.suppress(ActionError):
        rng.choice(deeds)()


@pytest.mark.parametrize("seed", range(8))
def test_after_a_loss_all_goes_on_as_without(store: redis.Redis, alert: Alert, seed: int) -> None:
    heard: list[list[Any]] = []
    for lost in (False, True):
        store.flushall()
        rng = random.Random(seed)
        office = Office(store, alert)
        loss_at = rng.randrange(5, 20)
        mine: list[Any] = []
        for turn in range(40):
            if turn == loss_at and lost:
                office.lose_redis()
            office.now_s += 120
            _deed(office, rng)
            told = [one for one in office.news() if one[1] != "alert.repeated"]
            if turn >= loss_at:
                mine.append((turn, told))
        heard.append(mine)
    assert heard[1] == heard[0]
    assert any(told for _, told in heard[0])


def test_who_was_called_twice_was_told_twice_and_is_not_again(store: redis.Redis, alert: Alert) -> None:
    office = Office(store, alert)
    office.put("A")
    office.news()
    office.put("A", severity="critical")
    assert ("boss", "alert.escalated", "A critical") in office.news()
    office.now_s += 1_800
    assert office.news() == [("boss", "alert.escalated", "A critical")]  # by time: another transition, another message
    office.redis.xtrim("nq:{alerts}:log", maxlen=0, approximate=False)
    office.redis.xadd("nq:{alerts}:log", {"line": "of another version"})
    office._start()
    assert office.news() == []  # the log begins after the cursor: what stands was noted before
    office.lose_redis()
    assert office.news() == [(name, "alert.repeated", "A critical") for name in ("boss", "desk", "risk")]
    assert office.news() == []
    office.actions.acknowledge("A", "ann")
    assert office.news() == [(name, "alert.acknowledged", "A critical") for name in ("boss", "desk", "risk")]


def test_of_what_fires_still_everyone_is_told_once_more_for_a_message_may_have_been_lost(
    store: redis.Redis, alert: Alert
) -> None:
    office = Office(store, alert)
    for name in ("A", "B", "C", "D", "E"):
        office.put(name)
    office.news()
    office.actions.acknowledge("B", "ann")
    office.over("C")
    office.silence("D", 20)
    office.news()
    office.put("E", severity="critical")
    office.dispatcher.step(office.now_s, office.now_s)
    assert office.outbox.waiting("risk")[0] == 1  # it is down, and the message waits
    office.now_s += 600
    office.lose_redis()
    said = office.news()
    assert said == [
        ("boss", "alert.repeated", "E critical"),
        ("desk", "alert.repeated", "A warning"),
        ("desk", "alert.repeated", "E critical"),
        ("risk", "alert.repeated", "E critical"),
    ]
    office._start()
    assert office.news() == []
    assert office.news() == [("desk", "alert.repeated", "D warning")]  # its silence is over


@pytest.mark.parametrize("grows", [False, True])
def test_who_dispatches_when_an_alert_is_put_back_tells_of_its_end_those_who_were_told_of_it(
    store: redis.Redis, alert: Alert, grows: bool
) -> None:
    office = Office(store, alert)
    office.put("A")
    office.put("B")
    office.over("B")
    assert ("desk", "alert.firing", "A warning") in office.news()
    lost = office.published["A"], office.published["B"]
    for key in ("alert", "life", "history"):
        store.delete(*(f"nq:{{alerts}}:{key}:{name}" for name in "AB"))
    store.hdel("nq:{alerts}:dispatch:alerts", "A")
    store.delete("nq:{alerts}:dispatch:groups")
    office._start()
    assert office.news() == []
    assert all(map(office.store.restore, lost))
    assert office.news() == []
    if grows:
        office.put("A", severity="critical")
        assert office.news() == [
            ("boss", "alert.escalated", "A critical"),
            ("desk", "alert.escalated", "A critical"),
            ("risk", "alert.firing", "A critical"),
        ]
    office.put("A", status="resolved", resolved_at=office.at)
    severity, names = ("critical", ("boss", "desk", "risk")) if grows else ("warning", ("desk",))
    assert office.news() == [(name, "alert.resolved", f"A {severity}") for name in names]
    office._start()
    assert office.news() == []
