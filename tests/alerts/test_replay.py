"""What was given up and is sent again tells nobody how an alert stood as if it stood so now."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alerts.alert import Alert, Event, Message
from alerts.delivery import Delivery, delivery_of
from alerts.digest import digest_of
from alerts.message import decode_message
from alerts.notification import Notification, notification_id
from alerts.replay import Replayed, replay
from tests.alerts.rig import NOW, Rig, queue


def make(rig: Rig, *alerts: Alert, event: Event = "alert.firing", after: tuple[str, ...] = ()) -> Delivery:
    """Put a delivery about these alerts into the outbox, made at the next moment."""
    rig.now += 0.001
    steps = [f"{alert.id}@{alert.revision}" for alert in alerts]
    told = Notification(
        id=notification_id("desk", event, *steps), receiver="desk", event=event, alerts=alerts, at=alerts[0].updated_at
    )
    made = delivery_of(told, rig.now, after=after)
    queue(rig.redis, [made], rig.now)
    return made


def later(alert: Alert, revision: int = 2, status: Any = "resolved") -> Alert:
    return msgspec.structs.replace(alert, revision=revision, status=status)


def send_all(rig: Rig, pause_s: float = 1.0) -> None:
    while rig.outbox.waiting("desk")[0]:
        rig.sender.step()
        rig.now += pause_s


def taken(hooks: Any) -> list[tuple[str, int]]:
    """Alert and revision of all that the receiver took."""
    found: list[tuple[str, int]] = []
    for _, body in hooks.requests:
        message = decode_message(body)
        alerts = (message.data,) if isinstance(message, Message) else message.data.alerts
        found += [(alert.id, alert.revision) for alert in alerts]
    return found


def test_a_beginning_is_not_told_after_the_end(rig: Rig, hooks: Any, alert: Alert) -> None:
    fires = make(rig, alert)
    rig.outbox.give_up(fires, rig.now)
    make(rig, later(alert), event="alert.resolved", after=(fires.id,))
    send_all(rig)
    assert replay(rig.outbox, lambda one: one.id == fires.id, rig.now) == Replayed(due=0, along=0, superseded=1)
    assert rig.outbox.waiting("desk") == (0, None)
    assert rig.outbox.dead_count() == 0
    assert taken(hooks) == [(alert.id, 2)]
    line = next(line for line in rig.outbox.told(alert.id) if line.id == fires.id)
    assert (line.status, line.reason) == ("superseded", "its receiver has been told something later")


def test_what_was_given_up_after_it_comes_along(rig: Rig, hooks: Any, alert: Alert) -> None:
    other = msgspec.structs.replace(alert, id="b" * 32)
    fires = make(rig, alert)
    for each in (fires, make(rig, other), make(rig, later(alert), event="alert.resolved", after=(fires.id,))):
        rig.outbox.give_up(each, rig.now)
    assert replay(rig.outbox, lambda one: one.id == fires.id, rig.now) == Replayed(due=1, along=1, superseded=0)
    send_all(rig)
    assert taken(hooks) == [(alert.id, 1), (alert.id, 2)]
    assert [dead.alert for dead in rig.outbox.dead()] == [other.id]


def test_the_end_alone_can_be_sent_again(rig: Rig, hooks: Any, alert: Alert) -> None:
    make(rig, alert)
    send_all(rig)
    over = make(rig, later(alert), event="alert.resolved")
    rig.outbox.give_up(over, rig.now)
    assert replay(rig.outbox, lambda _: True, rig.now).due == 1
    send_all(rig)
    assert taken(hooks) == [(alert.id, 1), (alert.id, 2)]


@pytest.mark.parametrize("as_digest", [False, True], ids=["group", "digest"])
def test_of_several_alerts_those_are_left_out_of_which_more_was_told(
    rig: Rig, hooks: Any, alert: Alert, as_digest: bool
) -> None:
    other = msgspec.structs.replace(alert, id="b" * 32)
    if as_digest:
        members = [make(rig, alert), make(rig, other)]
        both = digest_of(members, alert.updated_at)
        assert rig.outbox.fold(both, members, rig.now)
    else:
        both = make(rig, alert, other)
    rig.outbox.give_up(both, rig.now)
    make(rig, later(alert), event="alert.resolved", after=(both.id,))
    send_all(rig)
    assert replay(rig.outbox, lambda _: True, rig.now) == Replayed(due=1, along=0, superseded=0)
    send_all(rig)
    assert taken(hooks) == [(alert.id, 2), (other.id, 1)]
    if as_digest:
        assert [held["alerts"] for held in json.loads(hooks.requests[-1][1])["data"]["held"]] == [[other.id]]


def test_what_the_receiver_takes_meanwhile_counts_too(rig: Rig, hooks: Any, alert: Alert) -> None:
    fires = make(rig, alert)
    rig.outbox.give_up(fires, rig.now)
    make(rig, later(alert, status="firing"), event="alert.escalated")
    assert replay(rig.outbox, lambda _: True, rig.now).due == 1
    hooks.answers = [500]  # the beginning has to wait, and does not hold up what is not known to come after it
    send_all(rig)
    assert taken(hooks)[1:] == [(alert.id, 2)]
    assert rig.count("superseded") == 1
    assert rig.outbox.dead_count() == 0


def test_after_90_days_nobody_knows_what_was_told_since(rig: Rig, alert: Alert) -> None:
    fires = make(rig, alert)
    rig.outbox.give_up(fires, rig.now)
    assert replay(rig.outbox, lambda _: True, rig.now + 91 * 86_400) == Replayed(due=0, along=0, superseded=1)


deeds = st.lists(
    st.one_of(
        st.tuples(st.just("change"), st.integers(0, 2)),
        st.tuples(st.sampled_from(["send", "fail", "give up"]), st.just(0)),
        st.tuples(st.just("replay"), st.integers(0, 5)),
        st.tuples(st.just("replay all"), st.just(0)),
    ),
    min_size=8,
    max_size=30,
)


@given(deeds)
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_whatever_is_given_up_and_sent_again_no_receiver_goes_back_in_time(
    store: redis.Redis, hooks: Any, secret: str, alert: Alert, done: list[tuple[str, int]]
) -> None:
    store.flushall()
    hooks.requests.clear()
    hooks.answers.clear()
    rig = Rig(store, hooks.url, secret)
    rig.now = NOW
    stands: dict[str, tuple[int, str]] = {}
    refused: list[tuple[str, int]] = []
    for what, which in done:
        rig.now += 0.5
        if what == "change":
            id_ = "abc"[which] * 32
            revision, before = stands.get(id_, (0, ""))
            made = make(
                rig,
                msgspec.structs.replace(alert, id=id_, revision=revision + 1, status="firing"),
                event="alert.escalated" if revision else "alert.firing",
                after=(before,) if before else (),
            )
            stands[id_] = revision + 1, made.id
        elif what == "give up":
            for one in rig.outbox.due("desk", rig.now):
                rig.outbox.give_up(one, rig.now)
        elif what in ("send", "fail"):
            seen = len(hooks.requests)
            hooks.answers = [500] if what == "fail" else []
            rig.sender.step()
            if what == "fail":
                refused += taken(hooks)[seen:]
                del hooks.requests[seen:]
        else:
            dead = rig.outbox.dead()
            chosen = {each.id for each in (dead if what == "replay all" else dead[which : which + 1])}
            replay(rig.outbox, lambda one, chosen=chosen: one.id in chosen, rig.now)
    hooks.answers.clear()
    replay(rig.outbox, lambda _: True, rig.now)
    send_all(rig, pause_s=300.0)
    assert rig.outbox.dead_count() == 0
    told = taken(hooks)
    for id_, (revision, _) in stands.items():
        mine = [each for alert_id, each in told if alert_id == id_]
        assert mine == sorted(set(mine))
        assert mine[-1] == revision  # the last word is never lost
