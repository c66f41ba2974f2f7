"""What is told of an alert that comes back: to all who were told of its end, after that; and what other hands left."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import redis

from alerts.actions import ActionError
from alerts.alert import Alert
from alerts.store import FENCE, LOG, AlertStore, FencedError
from tests.alerts.test_reopening import ESCALATES, Office

CALLS = "route: {receiver: desk, escalate_to: [pager]}"
AFTER = "nq:{alerts}:after"


def dispatch(office: Office) -> None:
    while office.dispatcher.step(office.now.timestamp(), office.now.timestamp()):
        pass


def held_back(office: Office) -> list[str]:
    """What the pager is told while it is away: what it gets once it is back, in order."""
    now_s = office.now.timestamp()
    [first] = office.outbox.due("pager", now_s + 1)
    office.outbox.retry(first, now_s + 5_000, now_s)
    assert office.outbox.due("pager", now_s + 4_999) == []
    return [each.event.removeprefix("alert.") for each in office.outbox.due("pager", now_s + 5_001, 10)]


@pytest.mark.parametrize("lost", [False, True], ids=["", "after a loss of Redis"])
@pytest.mark.parametrize("again", ["by hand", "grown"])
def test_who_was_called_is_told_that_it_is_back_and_of_what_follows(
    store: redis.Redis, alert: Alert, again: str, lost: bool
) -> None:
    office = Office(store, alert, CALLS if again == "by hand" else ESCALATES)
    assert office.at(0) == [("desk", "firing")]
    if again == "by hand":
        office.store.put(msgspec.structs.replace(office.alert, revision=2, severity="critical"))
        assert office.at(1) == [("desk", "escalated"), ("pager", "escalated")]
    assert office.at(15) == ([] if again == "by hand" else [("pager", "escalated")])
    office.actions.resolve(office.alert.id, "ben")
    assert office.at(16) == [("desk", "resolved"), ("pager", "resolved")]
    if again == "by hand":
        office.actions.reopen(office.alert.id, "ben", "the wrong one")
        assert office.at(17) == [("desk", "firing"), ("pager", "firing")]
    else:
        grown = {"revision": 2, "severity": "critical", "updated_at": office.now}
        office.store.put(msgspec.structs.replace(office.alert, **grown))
        assert office.at(17) == [("desk", "firing"), ("pager", "escalated")]
    if lost:
        view = office.view
        store.flushall()
        assert office.store.restore(view)
        office.restart()
        assert office.at(18) == [("desk", "repeated"), ("pager", "repeated")]
    office.actions.acknowledge(office.alert.id, "ben")
    assert office.at(19) == [("desk", "acknowledged"), ("pager", "acknowledged")]
    office.actions.unacknowledge(office.alert.id, "ben")
    assert office.at(20) == [("desk", "firing"), ("pager", "firing")]
    office.ends()
    assert office.at(21) == [("desk", "resolved"), ("pager", "resolved")]


def test_who_is_called_anew_is_not_told_so_before_the_end(store: redis.Redis, alert: Alert) -> None:
    """Routes changed while it was over, and named whom an escalation had called in another way."""
    office = Office(store, alert, "route: {receivers: [desk, pager]}")
    office.at(0)
    office.use(ESCALATES)
    office.actions.resolve(office.alert.id, "ben")
    dispatch(office)
    office.minutes = 1
    office.actions.reopen(office.alert.id, "ben")
    dispatch(office)
    office.minutes = 16
    office.timers.step(office.now)
    dispatch(office)
    assert office.events()[-1] == "escalated"
    assert held_back(office) == ["resolved", "escalated"]


def test_whom_other_rules_name_later_is_not_told_before_the_end(store: redis.Redis, alert: Alert) -> None:
    office = Office(store, alert)
    office.at(0)
    office.actions.resolve(office.alert.id, "ben")
    dispatch(office)
    office.use("route: {receiver: desk}")
    office.actions.reopen(office.alert.id, "ben")
    dispatch(office)
    office.restart()
    office.use("")
    dispatch(office)
    assert held_back(office) == ["resolved", "firing"]


def test_where_the_log_was_cut_it_is_not_told_before_the_end(office: Office) -> None:
    office.at(0)
    office.actions.resolve(office.alert.id, "ben")
    dispatch(office)
    office.actions.reopen(office.alert.id, "ben")
    office.actions.acknowledge(office.alert.id, "ben")
    office.actions.unacknowledge(office.alert.id, "ben")
    office.redis.xtrim(LOG, maxlen=1, approximate=False)
    office.restart()
    dispatch(office)
    assert held_back(office) == ["resolved", "firing"]


@pytest.mark.parametrize("how", ["resolved", "gone", "half gone"])
def test_what_another_version_ended_lingers_no_more(office: Office, how: str) -> None:
    office.actions.resolve(office.alert.id, "ben")
    office.ends()
    if how == "resolved":
        office.redis.sadd(AFTER, office.alert.id)
    else:
        office.actions.reopen(office.alert.id, "ben")
        keys = ("alert", "life") if how == "gone" else ("alert",)
        office.redis.delete(*(f"nq:{{alerts}}:{each}:{office.alert.id}" for each in keys))
    assert office.timers.needed()
    assert office.timers.step(office.now) == ()
    assert not office.timers.needed()
    if how == "resolved":
        office.actions.reopen(office.alert.id, "ben")
        assert office.store.reopened() == [office.alert.id]


def test_what_cannot_be_read_by_this_version_lingers_on(office: Office) -> None:
    office.actions.resolve(office.alert.id, "ben")
    office.ends()
    office.actions.reopen(office.alert.id, "ben")
    history = f"nq:{{alerts}}:history:{office.alert.id}"
    office.redis.rpush(history, '{"event": "of another version"}')
    assert office.timers.step(office.now) == ()
    office.redis.rpop(history)
    office.at(60)
    assert office.view.life.state == "resolved"


def test_who_leads_no_more_settles_nothing(office: Office) -> None:
    office.redis.sadd(AFTER, office.alert.id)
    office.redis.set(FENCE, "8")
    with pytest.raises(FencedError):
        AlertStore(office.redis, lambda: "7").settle(office.alert.id)
    assert office.store.reopened() == [office.alert.id]


def test_what_is_reopened_while_it_is_settled_lingers_on(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    office.actions.resolve(office.alert.id, "ben")
    office.ends()
    office.redis.sadd(AFTER, office.alert.id)
    real = AlertStore.view

    def view(self: AlertStore, alert_id: str) -> Any:
        found = real(self, alert_id)
        monkeypatch.undo()
        office.actions.reopen(alert_id, "ben")
        return found

    monkeypatch.setattr(AlertStore, "view", view)
    office.store.settle(office.alert.id)
    assert office.store.reopened() == [office.alert.id]


def test_of_two_that_are_reopened_at_the_same_moment_the_newer_one_is_left(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    office.actions.resolve(office.alert.id, "ben")
    office.ends()
    office.minutes = 5
    other = office.another()
    office.actions.resolve(other.id, "ben")
    office.store.put(msgspec.structs.replace(other, revision=2, status="resolved"))
    real, others = AlertStore.open, [office.alert.id]

    def opened(self: AlertStore, *, reopened: bool = False) -> list[Alert]:
        found = real(self, reopened=reopened)
        while others:
            office.actions.reopen(others.pop(), "anna")
        return found

    monkeypatch.setattr(AlertStore, "open", opened)
    office.actions.reopen(other.id, "ben")
    monkeypatch.undo()
    assert len(office.store.lives()) == 2
    office.at(6)
    assert [life.alert for life in office.store.lives()] == [other.id]
    assert office.view.transitions[-1].reason == f"another alert tells of it by now ({other.id})"


def test_what_this_version_cannot_read_does_not_fire_once_more(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    """As an alert with a step that came with a later version, after going back."""
    history = f"nq:{{alerts}}:history:{office.alert.id}"
    office.redis.rpush(history, '{"event": "of another version"}')
    assert office.store.put(msgspec.structs.replace(office.alert, revision=2, severity="critical")) is None
    assert "stays as it is until a version runs that can read it" in caplog.text
    with pytest.raises(ActionError, match="there is no alert"):
        office.actions.acknowledge(office.alert.id, "ben")
    office.redis.rpop(history)
    assert office.view.alert == office.alert
    assert office.store.put(msgspec.structs.replace(office.alert, revision=2, severity="critical")) is not None
    assert office.events() == ["firing", "escalated"]


@pytest.fixture
def office(store: redis.Redis, alert: Alert) -> Office:
    return Office(store, alert)
