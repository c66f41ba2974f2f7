"""Whatever detectors, people and time do, in whatever order and at the same moment, lives add up and nothing hangs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import redis
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from alerts.actions import ActionError, Actions
from alerts.alert import Alert
from alerts.life import AlertView, Life, follow
from alerts.matchers import parse
from alerts.rules import Rules
from alerts.settings import AlertsSettings
from alerts.silences import Silence, Silences, silence_over
from alerts.store import AlertStore
from alerts.timers import Timers

START = datetime(2026, 11, 24, 12, tzinfo=UTC)
CALM_MIN = 60
SERIES = ("company=A", "company=B")
AFTER = {
    "": {"firing"},
    "firing": {"escalated", "acknowledged", "resolved"},
    "acknowledged": {"escalated", "unacknowledged", "resolved"},
    "resolved": {"reopened"},
}
"""What may come in a state, beside silences."""

series = st.sampled_from(SERIES)
numbers = st.integers(0, 30)
deeds = st.sampled_from(["acknowledge", "unacknowledge", "resolve", "resolve", "reopen", "reopen", "annotate"])


class Lives(RuleBasedStateMachine):
    """Two series with an episode each at a time, as detectors have; a clock; people; and Redis, which may be lost."""

    store: redis.Redis
    alert: Alert

    @initialize()
    def begin(self) -> None:
        self.store.flushall()
        self.minutes = 0
        self.alerts, self.actions = AlertStore(self.store), Actions(self.store, self.now_s)
        rules = Rules(AlertsSettings())
        self.timers = Timers(self.store, self.alerts, lambda: rules, calm_min=CALM_MIN)
        self.known: list[str] = []
        self.episodes: dict[str, Alert] = {}
        self.published: dict[str, AlertView] = {}
        self.unsure: set[str] = set()

    @property
    def now(self) -> datetime:
        return START + timedelta(minutes=self.minutes)

    def now_s(self) -> float:
        return self.now.timestamp()

    def put(self, alert: Alert) -> None:
        self.reconcile()
        self.alerts.put(alert, silence=silence_over(Silences(self.store).all(), alert, self.now))

    @rule(minutes=st.sampled_from([1, 20, 59, 61]))
    def wait(self, minutes: int) -> None:
        self.minutes += minutes

    @rule(on=series)
    def surge(self, on: str) -> None:
        if on in self.episodes:
            return
        id_ = f"{len(self.known):032d}"
        fields = {"id": id_, "series": on, "started_at": self.now, "updated_at": self.now, "severity": "warning"}
        self.episodes[on] = msgspec.structs.replace(self.alert, **fields)
        self.known.append(id_)
        self.put(self.episodes[on])

    @rule(on=series)
    def grow(self, on: str) -> None:
        self.revise(on, severity="critical")

    @rule(on=series)
    def calm(self, on: str) -> None:
        self.revise(on, status="resolved")
        self.episodes.pop(on, None)

    def revise(self, on: str, **fields: Any) -> None:
        if on in self.episodes:
            before = self.episodes[on]
            more = {"revision": before.revision + 1, "updated_at": self.now, **fields}
            self.episodes[on] = msgspec.structs.replace(before, **more)
            self.put(self.episodes[on])

    @rule(what=deeds, number=numbers)
    def act(self, what: str, number: int) -> None:
        if not self.known:
            return
        id_ = self.known[number % len(self.known)]
        view = self.alerts.view(id_)
        assert view is not None
        others = [each for each in self.alerts.open(reopened=True) if each.id != id_]
        by_hand = view.life.state == "resolved" and view.life.actor != "newsquake"
        in_time = (view.alert.status == "firing" and id_ not in self.unsure) or self.now - view.life.since <= timedelta(
            hours=1
        )
        fits = by_hand and in_time and all(each.series != view.alert.series for each in others)
        try:
            step = getattr(self.actions, what)(id_, "anna", "because")
        except ActionError as exc:
            assert what != "reopen" or not fits, exc
        else:
            assert what != "reopen" or (fits and step.state == "firing")

    @rule(on=series, minutes=st.sampled_from([0, 59, 61]))
    def slip(self, on: str, minutes: int) -> None:
        """Somebody resolves what fires, its surge ends, and they find that it was the wrong one."""
        if on in self.episodes:
            id_ = self.episodes[on].id
            with contextlib.suppress(ActionError):
                self.actions.resolve(id_, "anna")
            self.calm(on)
            self.minutes += minutes
            self.act("reopen", self.known.index(id_))

    @rule(what=deeds, number=numbers, other=numbers, on=series, then=st.sampled_from(["calm", "grow", "tick", "act"]))
    def at_once(self, what: str, number: int, other: int, on: str, then: str) -> None:
        """Between the reading and the writing of what somebody does something else happens."""
        self.amid("_read", what, number, other, on, then)

    @rule(on=series, then=st.sampled_from(["tick", "act"]))
    def slip_twice(self, on: str, then: str) -> None:
        """Two surges of a series are over, and two people take back at once that they resolved them."""
        for _ in range(2):
            if on not in self.episodes:
                self.surge(on)
            with contextlib.suppress(ActionError):
                self.actions.resolve(self.episodes[on].id, "anna")
            self.calm(on)
            self.minutes += 1
        last = len(self.known) - 1
        self.amid("open", "reopen", last, last - 1, on, then)

    def amid(self, where: str, what: str, number: int, other: int, on: str, then: str) -> None:
        others: dict[str, Callable[[], None]] = {
            "calm": lambda: self.calm(on),
            "grow": lambda: self.grow(on),
            "tick": self.tick,
            "act": lambda: self.act(what, other),
        }
        real = getattr(AlertStore, where)

        def read(*args: Any, **options: Any) -> Any:
            found = real(*args, **options)
            setattr(AlertStore, where, real)
            others[then]()
            return found

        if self.known:
            setattr(AlertStore, where, read)
            with contextlib.suppress(ActionError):
                getattr(self.actions, what)(self.known[number % len(self.known)], "ben", "so it is")
            setattr(AlertStore, where, real)

    @rule(on=series, minutes=st.sampled_from([5, 90]))
    def silence(self, on: str, minutes: int) -> None:
        made = Silence(
            id=f"s{self.minutes}-{on}-{minutes}", matchers=parse(on), starts_at=self.now, author="anna", reason="known",
            ends_at=self.now + timedelta(minutes=minutes), created_at=self.now,
        )  # fmt: skip
        self.actions.silence(made, "anna")

    @rule()
    def tick(self) -> None:
        """Time has its way, in two processes of which one has led a moment too long."""
        self.timers.step(self.now)
        assert self.timers.step(self.now) == ()
        lives = self.alerts.lives()
        for life in lives:
            view = self.alerts.view(life.alert)
            assert view is not None
            if view.alert.status == "resolved":
                since = max(step.at for step in view.transitions if step.event == "reopened")
                assert self.now - since < timedelta(minutes=CALM_MIN), "it hangs"
        assert len({life.series for life in lives}) == len(lives), "two tell of one thing"

    @rule()
    def lose_redis(self) -> None:
        """All is lost, and put back as Kafka has it: as it was with its last transition."""
        views, silences = self.alerts.views(open=False), Silences(self.store).all()
        self.store.flushall()
        for view in self.published.values():
            assert self.alerts.restore(view)
        self.unsure = {id_ for id_, view in self.published.items() if view.alert.status == "firing"}
        for each in silences:
            Silences(self.store).put(each)
        assert [view.transitions for view in self.alerts.views(open=False)] == [view.transitions for view in views]

    @rule()
    def reconcile(self) -> None:
        """Alerting has looked which of the alerts that fire have a course still, as before it judges on."""
        for each in self.alerts.open():
            if each.id not in {alert.id for alert in self.episodes.values()}:
                over = {"revision": each.revision + 1, "status": "resolved", "updated_at": self.now}
                self.alerts.put(msgspec.structs.replace(each, **over))
        self.alerts.reconciled(self.alerts.unsure())
        self.unsure.clear()

    @invariant()
    def adds_up(self) -> None:
        is_open, lingers, fires = set(), set(), set()
        for id_ in getattr(self, "known", ()):
            view = self.alerts.view(id_)
            assert view is not None
            life: Life | None = None
            for step in view.transitions:
                if step.event == "noted":
                    assert life is not None
                    same = msgspec.structs.replace(life, transitions=life.transitions + 1)
                    assert follow(life, step) == msgspec.structs.replace(same, revision=step.revision)
                elif step.event not in ("silenced", "unsilenced"):
                    assert step.event in AFTER[life.state if life else ""], step
                life = follow(life, step)
            assert life is not None
            if id_ not in self.published or len(self.published[id_].transitions) < len(view.transitions):
                self.published[id_] = view
            assert view.life == msgspec.structs.replace(life, revision=view.alert.revision)
            assert len({step.key for step in view.transitions}) == len(view.transitions)
            if life.state != "resolved":
                is_open.add(id_)
                lingers |= {id_} if view.alert.status == "resolved" else set()
            fires |= {id_} if view.alert.status == "firing" else set()
        if hasattr(self, "known"):
            assert {life.alert for life in self.alerts.lives()} == is_open
            assert {view.alert.id for view in self.alerts.views()} == is_open
            assert {*self.alerts.reopened()} == lingers
            assert {alert.id for alert in self.alerts.open()} == fires >= {each.id for each in self.episodes.values()}


def test_whatever_happens_lives_add_up_and_nothing_hangs(store: redis.Redis, alert: Alert) -> None:
    machine = type("LivesHere", (Lives,), {"store": store, "alert": alert})
    quick = settings(max_examples=60, stateful_step_count=30, deadline=None, database=None)
    run_state_machine_as_test(machine, settings=quick)
