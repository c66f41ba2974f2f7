"""Who is told what, and when: by example, and against what must hold whatever happens."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerts.groups import HOLD_S, Group, Groups, Known, Telling
from alerts.life import Event, Severity, State, Transition
from alerts.routes import Routes, Way
from alerts.rules_file import parse

NAMES = ("desk", "risk", "pager")
START_S = 1_700_000_000.0
PLAIN = ""
BY_TOPIC = "route: {receiver: desk, group_by: [topic], group_wait: 30s, group_interval: 5m, repeat_interval: 1h}"
CALLS = (
    "route: {receiver: desk, escalate_to: [pager], routes: [{matchers: [severity=critical], receivers: [risk, desk]}]}"
)
OTHER = "route: {receiver: risk}"


class Desk:
    """Alerts, their lives, silences, routes and a clock; what receivers are told is kept."""

    def __init__(self, text: str) -> None:
        self.book = Groups({}, {})
        self.now_s = START_S
        self.told: list[tuple[float, Telling]] = []
        self.silenced: set[str] = set()
        self.quiet = False
        self.state: dict[str, State] = {}
        self.severity: dict[str, Severity] = {}
        self.steps: dict[str, int] = {}
        self.escalated: set[str] = set()
        self.use(text)

    def use(self, text: str) -> None:
        found = parse(text.encode(), Path("rules.yaml"), receivers=NAMES)
        self.routes = Routes(NAMES, found.time_intervals, found.route)
        for alert in self.book.lead_anew():
            self.book.lead(self.book.known[alert], self.ways(alert), self.now_s)

    def ways(self, alert: str) -> dict[str, Way]:
        labels = {"topic": alert[0], "name": alert, "severity": self.severity[alert], "state": self.state[alert]}
        return self.routes.told(labels, escalated=alert in self.escalated)

    def step(self, alert: str, event: Event, state: State, severity: Severity | None = None) -> None:
        self.state[alert], self.severity[alert] = state, severity or self.severity[alert]
        self.steps[alert] = self.steps.get(alert, 0) + 1
        if event == "escalated":
            self.escalated.add(alert)
        step = Transition(
            key=f"{alert}:{self.steps[alert]}:{event}", alert=alert, event=event, state=state,
            at=datetime.fromtimestamp(self.now_s, UTC), severity=self.severity[alert], revision=self.steps[alert],
            series="market", name=alert, summary="",
        )  # fmt: skip
        self.book.step(step, self.ways(alert), self.now_s)
        if state == "resolved":
            self.escalated.discard(alert)
        self.look()

    def look(self) -> None:
        for key in self.book.due(self.now_s):
            if key in self.book.groups:
                told = self.book.tell(
                    key, self.now_s, silenced=lambda known: known.alert in self.silenced, quiet=lambda _: self.quiet
                )
                self.told += [(self.now_s, each) for each in told]

    def wait(self, seconds: float) -> None:
        end_s = self.now_s + seconds
        while self.now_s < end_s:
            self.now_s = min(end_s, self.now_s + 10)
            self.look()

    def restart(self) -> None:
        known = msgspec.msgpack.decode(msgspec.msgpack.encode(self.book.known), type=dict[str, Known])
        groups = msgspec.msgpack.decode(msgspec.msgpack.encode(self.book.groups), type=dict[str, Group])
        self.book = Groups(known, groups)
        for alert in self.book.lead_anew():
            self.book.lead(self.book.known[alert], self.ways(alert), self.now_s)

    def news(self) -> list[tuple[int, str, str, str]]:
        found = [
            (
                int(at_s - START_S),
                each.receiver,
                each.event.removeprefix("alert."),
                "+".join(k.alert for k in each.alerts),
            )
            for at_s, each in self.told
        ]
        self.told = []
        return found


def test_without_routes_all_are_told_of_each_change_at_once() -> None:
    desk = Desk(PLAIN)
    desk.step("a1", "firing", "firing", "warning")
    desk.step("a1", "escalated", "firing", "critical")
    desk.step("a1", "acknowledged", "acknowledged")
    desk.step("a1", "moved", "acknowledged")
    desk.step("a1", "unacknowledged", "firing")
    desk.step("a1", "resolved", "resolved")
    desk.wait(100_000)
    events = ["firing", "escalated", "acknowledged", "firing", "resolved"]
    assert desk.news() == [(0, receiver, event, "a1") for event in events for receiver in sorted(NAMES)]
    assert not desk.book.known and not desk.book.groups


def test_what_is_reopened_is_told_under_new_ids() -> None:
    desk = Desk(PLAIN)
    for event in ("firing", "reopened"):
        desk.step("a1", event, "firing", "warning")
        desk.step("a1", "resolved", "resolved")
    assert [telling.event for _, telling in desk.told] == ["alert.firing"] * 3 + ["alert.resolved"] * 3 + [
        "alert.firing"
    ] * 3 + ["alert.resolved"] * 3
    assert len({telling.id for _, telling in desk.told}) == 12


def test_a_group_waits_gathers_and_repeats() -> None:
    desk = Desk(BY_TOPIC)
    desk.step("a1", "firing", "firing", "warning")
    desk.wait(20)
    desk.step("a2", "firing", "firing", "warning")
    desk.step("b1", "firing", "firing", "warning")
    desk.wait(30)
    assert desk.news() == [(30, "desk", "firing", "a1+a2"), (50, "desk", "firing", "b1")]
    desk.step("a3", "firing", "firing", "warning")
    desk.step("a1", "resolved", "resolved")
    desk.wait(300)
    assert desk.news() == [(330, "desk", "firing", "a3"), (330, "desk", "resolved", "a1")]
    desk.wait(3_600)
    assert desk.news() == [(3_630, "desk", "repeated", "a2+a3"), (3_650, "desk", "repeated", "b1")]
    desk.step("a3", "acknowledged", "acknowledged")
    assert desk.news() == [(3_950, "desk", "acknowledged", "a3")]
    desk.wait(3_600)
    assert desk.news() == [(7_230, "desk", "repeated", "a2"), (7_250, "desk", "repeated", "b1")]


def test_a_group_waits_on_after_a_restart_and_under_other_rules() -> None:
    desk = Desk(BY_TOPIC)
    desk.step("a1", "firing", "firing", "warning")
    desk.wait(10)
    desk.restart()
    desk.wait(10)
    assert desk.news() == []
    desk.use(BY_TOPIC.replace("group_wait: 30s", "group_wait: 60s"))
    desk.wait(30)
    assert desk.news() == []
    desk.wait(10)
    assert desk.news() == [(60, "desk", "firing", "a1")]


@pytest.mark.parametrize("restarts", [False, True])
def test_a_clock_that_steps_back_holds_nothing_back(restarts: bool) -> None:
    desk = Desk(BY_TOPIC)
    desk.step("a1", "firing", "firing", "warning")
    desk.step("b1", "firing", "firing", "warning")
    desk.wait(30)
    desk.step("c1", "firing", "firing", "warning")
    desk.step("b2", "firing", "firing", "warning")
    desk.news()
    desk.now_s -= 7_200
    if restarts:
        desk.restart()
    desk.wait(310)
    assert [each[1:] for each in desk.news()] == [("desk", "firing", "c1"), ("desk", "firing", "b2")]
    desk.wait(3_300)
    assert ("desk", "repeated", "a1") in [each[1:] for each in desk.news()]


def test_what_was_over_before_anybody_was_told_is_never_told() -> None:
    desk = Desk(BY_TOPIC)
    desk.step("a1", "firing", "firing", "warning")
    desk.step("a1", "resolved", "resolved")
    desk.step("b1", "firing", "firing", "warning")
    desk.step("b1", "acknowledged", "acknowledged")
    desk.wait(10_000)
    assert desk.news() == []


def test_escalation_calls_others_and_growth_is_told_to_all() -> None:
    desk = Desk(CALLS)
    desk.step("a1", "firing", "firing", "warning")
    desk.step("a1", "escalated", "firing")
    assert desk.news() == [(0, "desk", "firing", "a1"), (0, "pager", "escalated", "a1")]
    desk.step("a1", "escalated", "firing", "critical")
    assert sorted(desk.news()) == [
        (0, "desk", "escalated", "a1"),
        (0, "pager", "escalated", "a1"),
        (0, "risk", "firing", "a1"),
    ]
    desk.step("a1", "resolved", "resolved")
    assert sorted(desk.news()) == [(0, receiver, "resolved", "a1") for receiver in ("desk", "pager", "risk")]


def test_who_was_told_is_told_of_the_end_though_the_routes_changed() -> None:
    desk = Desk(PLAIN)
    desk.step("a1", "firing", "firing", "warning")
    desk.news()
    desk.use(OTHER)
    desk.step("a1", "escalated", "firing", "critical")
    assert desk.news() == [(0, "risk", "escalated", "a1")]
    desk.restart()
    desk.step("a1", "acknowledged", "acknowledged")
    desk.step("a1", "resolved", "resolved")
    expected = [(0, receiver, event, "a1") for event in ("acknowledged", "resolved") for receiver in sorted(NAMES)]
    assert sorted(desk.news()) == sorted(expected)


@pytest.mark.parametrize("how", ["silenced", "quiet"])
def test_what_is_held_back_is_told_when_that_ends(how: str) -> None:
    def hold(on: bool) -> None:
        desk.silenced = {"a1", "a2"} if on and how == "silenced" else set()
        desk.quiet = on and how == "quiet"

    desk = Desk(BY_TOPIC)
    desk.step("a1", "firing", "firing", "warning")
    desk.wait(30)
    assert desk.news() == [(30, "desk", "firing", "a1")]
    hold(True)
    desk.step("a2", "firing", "firing", "warning")
    desk.step("a1", "resolved", "resolved")
    desk.wait(5_000)
    desk.restart()
    desk.wait(5_000)
    assert desk.news() == []
    hold(False)
    desk.wait(HOLD_S)
    assert [news[1:] for news in desk.news()] == [("desk", "firing", "a2"), ("desk", "resolved", "a1")]


def test_a_large_group_is_told_in_parts() -> None:
    desk = Desk(BY_TOPIC)
    for number in range(45):
        desk.step(f"a{number}", "firing", "firing", "warning")
    desk.wait(60)
    assert [len(each.alerts) for _, each in desk.told] == [20, 20, 5]
    assert len({each.id for _, each in desk.told}) == 3


ALERTS = ("a1", "a1", "a2", "b1")
ACTIONS = st.one_of(
    st.tuples(
        st.sampled_from(["rise", "rise", "grow", "call", "ack", "unack", "end", "end", "silence", "unsilence", "note"]),
        st.sampled_from(ALERTS),
    ),
    st.tuples(st.just("wait"), st.sampled_from([10, 30, 300, 4_000])),
    st.tuples(st.just("use"), st.sampled_from([PLAIN, BY_TOPIC, CALLS, OTHER])),
    st.tuples(st.sampled_from(["restart", "hours"]), st.none()),
)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([PLAIN, BY_TOPIC, CALLS]), st.lists(ACTIONS, min_size=8, max_size=40))
def test_whatever_happens(text: str, actions: list[tuple[str, object]]) -> None:
    desk = Desk(text)
    every: list[tuple[float, Telling]] = []

    def check() -> None:
        for _, telling in desk.told:
            assert not desk.quiet or not routed(telling), "told outside a route's hours"
            assert not desk.silenced & {known.alert for known in telling.alerts}, "told while silenced"
        every.extend(desk.told)
        desk.told = []

    def routed(telling: Telling) -> bool:
        return all(telling.receiver in desk.ways(known.alert) for known in telling.alerts)

    for action, what in actions:
        name = str(what)
        state = desk.state.get(name, "resolved")
        if action == "rise" and state == "resolved":
            desk.step(
                name, "firing" if name not in desk.state else "reopened", "firing", desk.severity.get(name, "warning")
            )
        elif action == "grow" and state != "resolved" and desk.severity[name] == "warning":
            desk.step(name, "escalated", "firing", "critical")
        elif action == "call" and state == "firing":
            desk.step(name, "escalated", "firing")
        elif action == "ack" and state == "firing":
            desk.step(name, "acknowledged", "acknowledged")
        elif action == "unack" and state == "acknowledged":
            desk.step(name, "unacknowledged", "firing")
        elif action == "end" and state != "resolved":
            desk.step(name, "resolved", "resolved")
        elif action == "note" and name in desk.state:
            desk.step(name, "noted", state)
        elif action == "silence":
            desk.silenced.add(name)
        elif action == "unsilence" and name in desk.silenced:
            desk.silenced.discard(name)
            if state != "resolved":
                desk.step(name, "unsilenced", state)
        elif action == "wait" and isinstance(what, int):
            desk.wait(what)
        elif action == "use":
            desk.use(name)
        elif action == "restart":
            desk.restart()
        elif action == "hours":
            desk.quiet = not desk.quiet
        check()
    desk.silenced, desk.quiet = set(), False
    desk.wait(5_000)
    check()

    assert len({telling.id for _, telling in every}) == len(every), "one id, one telling"
    last: dict[tuple[str, str], str] = {}
    repeated_s: dict[tuple[str, str], float] = {}
    for at_s, telling in every:
        event = telling.event.removeprefix("alert.")
        for known in telling.alerts:
            who = (telling.receiver, known.alert)
            before = last.get(who, "resolved")
            if event in ("resolved", "acknowledged", "repeated"):
                assert before != "resolved", "only who was told that it fires is told more"
            if event == "firing":
                assert before in ("resolved", "acknowledged"), "told once that it fires"
            if event == "repeated":
                assert before not in ("acknowledged", "resolved")
                assert at_s - repeated_s[who] >= 3_300
            last[who], repeated_s[who] = "firing" if event == "repeated" else event, at_s
    for (receiver, alert), event in last.items():
        if desk.state[alert] == "resolved":
            assert event == "resolved", f"{receiver} waits for the end of {alert}"
    for alert, state in desk.state.items():
        for receiver in desk.ways(alert) if state == "firing" else ():
            assert last.get((receiver, alert), "resolved") not in ("resolved", "acknowledged"), f"{receiver}: {alert}"
    assert set(desk.book.known) == {alert for alert, state in desk.state.items() if state != "resolved"}
