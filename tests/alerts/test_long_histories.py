"""Silences come and go without bound: an alert's history stays short, keeps what matters, and says what it lacks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
import redis

from alerts import life
from alerts.actions import Actions
from alerts.alert import Alert
from alerts.life import AlertView, Transition, changed, spare
from alerts.matchers import parse
from alerts.publish import _encode
from alerts.silences import Silence
from alerts.store import AlertStore

AT = datetime(2026, 11, 24, 12, tzinfo=UTC)


class Long:
    """An alert that is silenced and told of again, over and over; of its history 30 transitions are kept."""

    def __init__(self, store: redis.Redis, alert: Alert) -> None:
        self.redis, self.store, self.id = store, AlertStore(store), alert.id
        self.now = AT
        self.actions = Actions(store, self.now_s)
        self.store.put(msgspec.structs.replace(alert, severity="warning"))

    def now_s(self) -> float:
        return self.now.timestamp()

    def hush(self, times: int) -> None:
        for _ in range(times):
            self.now += timedelta(minutes=10)
            id_ = f"s{self.now.timestamp():.0f}"
            until = self.now + timedelta(hours=1)
            laid = Silence(
                id=id_, matchers=parse("company=SIVB"), starts_at=self.now, ends_at=until, author="ann", reason="known",
                created_at=self.now,
            )  # fmt: skip
            assert len(self.actions.silence(laid, "ann")) == 1
            assert len(self.actions.expire_silence(id_, "ann")) == 1

    @property
    def view(self) -> AlertView:
        view = self.store.view(self.id)
        assert view is not None
        return view


@pytest.fixture
def long(store: redis.Redis, alert: Alert, monkeypatch: pytest.MonkeyPatch) -> Long:
    monkeypatch.setattr(life, "KEPT", 30)
    return Long(store, alert)


def test_silences_make_no_history_grow_without_bound_and_push_out_nothing_else(long: Long) -> None:
    long.hush(12)
    begun = long.view.transitions
    assert (len(begun), long.view.left_out) == (25, 0)
    deeds = []
    for _ in range(3):
        deeds.append(long.actions.acknowledge(long.id, "ben"))
        long.hush(5)
        deeds.append(long.actions.annotate(long.id, "ben", f"as we know since {long.now}"))
        long.hush(5)
        deeds.append(long.actions.unacknowledge(long.id, "ben"))
    view = long.view
    assert len(view.transitions) == long.redis.llen(f"nq:{{alerts}}:history:{long.id}") == 30
    assert view.transitions[:20] == begun[:20]
    assert [step for step in view.transitions if step.actor == "ben"] == deeds
    assert view.transitions[-1] == deeds[-1]
    assert view.life.transitions == 1 + 2 * 42 + 9
    assert view.left_out == view.life.transitions - 30
    assert [step.event for step in view.transitions[-3:]] == ["noted", "unsilenced", "unacknowledged"]
    assert (view.life.state, view.life.silence) == ("firing", "")


def test_it_goes_on_as_one_that_is_whole(long: Long) -> None:
    long.hush(20)
    first = long.actions.resolve(long.id, "ben", key="click")
    assert long.actions.resolve(long.id, "ben", key="click") == first
    long.actions.reopen(long.id, "ben")
    long.hush(20)
    assert long.actions.resolve(long.id, "ben", key="click") == first
    keys = [step.key for step in long.store.log(1_000)]
    assert len(set(keys)) == len(keys) == long.view.life.transitions


def test_what_kafka_has_of_it_comes_back_and_of_two_the_one_that_has_been_through_more(long: Long) -> None:
    long.hush(20)
    early = long.view
    long.hush(1)
    late = long.view
    assert len(early.transitions) == len(late.transitions) == 30
    assert msgspec.json.decode(_encode(late), type=AlertView) == late
    assert not long.store.restore(early)
    long.redis.flushall()
    assert long.store.restore(early)
    assert long.view == early
    assert long.store.restore(late)
    assert long.view == late
    assert not long.store.restore(late)
    long.redis.lpop(f"nq:{{alerts}}:history:{long.id}")
    assert long.store.restore(late)
    assert long.view == late
    long.hush(1)
    assert (len(long.view.transitions), long.view.left_out) == (30, late.left_out + 2)


def test_what_came_before_a_step_that_is_left_out_is_known_by_its_time(long: Long) -> None:
    long.hush(20)
    view = long.view
    numbers = [n for n, step in enumerate(view.transitions) if step.at > view.transitions[19].at]
    left = next(step for step in long.store.log(1_000) if step not in view.transitions)
    came = life.before(view.transitions, left)
    assert came == list(view.transitions[: numbers[0]])
    assert life.before(view.transitions, view.transitions[25]) == list(view.transitions[:25])


def test_where_a_history_became_shorter_meanwhile_nothing_is_half_done(
    long: Long, monkeypatch: pytest.MonkeyPatch
) -> None:
    long.hush(20)
    monkeypatch.setattr(life, "KEPT", 20)
    monkeypatch.setattr(life, "KEPT_FIRST", 2)
    usual, tries = AlertStore._call, list[int]()

    def call(*args: Any) -> Any:
        tries.append(1)
        if len(tries) == 1:
            long.redis.ltrim(f"nq:{{alerts}}:history:{long.id}", 0, 4)
        return usual(*args)

    monkeypatch.setattr(AlertStore, "_call", call)
    logged = long.redis.xlen("nq:{alerts}:log")
    step = long.actions.acknowledge(long.id, "ben")
    assert len(tries) == 2
    assert long.view.transitions[-1] == step
    assert len(long.view.transitions) == 6
    assert long.redis.xlen("nq:{alerts}:log") == logged + 1


def test_what_goes_first(alert: Alert) -> None:
    lived: Any = None
    steps = list[Transition]()
    events: list[Any] = ["firing", *["silenced", "acknowledged", "moved", "escalated"] * 90]
    for event in events:
        if lived is None:
            steps += life.revised(None, alert)
        else:
            cause: Any = "time" if event == "escalated" else ""
            silence = "s" if event == "silenced" else ""
            steps.append(changed(lived, alert, event, "firing", at=AT, cause=cause, silence=silence))
        lived = life.follow(lived, steps[-1])
    assert len(steps) == 361
    assert spare(steps) == [n for n in range(20, 360) if steps[n].event == "silenced"][:41]
    without = [step for step in steps if step.event != "silenced"] * 2
    gone = [without[n] for n in spare(without)]
    assert len(without) - len(gone) == life.KEPT
    assert {step.event for step in gone} == {"moved", "escalated"}
    assert {n for n in range(20, len(without) - 1) if without[n].event == "moved"} <= {*spare(without)}
    assert spare(steps[: life.KEPT]) == []
    people = [step for step in steps if step.event == "acknowledged"] * 4
    assert spare(people) == list(range(20, 60))
