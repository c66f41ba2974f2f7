"""Receivers that are down, want less or are at their limit: all is told when they can take it, nobody is hammered."""

from __future__ import annotations

import socket
from typing import Any

import msgspec
import pytest
import redis

from alerts.alert import Alert
from alerts.breaker import Breaker, Pace
from alerts.channels.channel import Answer, HttpChannel
from alerts.replay import replay
from alerts.sender import KEEP_S
from tests.alerts.rig import NOW, Rig, changes, deliveries, in_order, put, taken


def test_an_hour_down_loses_nothing_and_is_made_up_within_minutes(
    store: redis.Redis, hooks: Any, secret: str, alert: Alert
) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{sock.getsockname()[1]}/hook"
    rig, other = Rig(store, nobody, secret), Rig(store, hooks.url, secret, name="other")
    made = changes(alert, 30)
    told: list[float] = []
    for minute in range(60):
        rig.now = other.now = NOW + minute * 60
        for event, one in made[minute::60]:
            put(rig, event, one)
            both = deliveries(event, one, ["other"], other.now)
            store.zadd("nq:{alerts}:due:other", {f"nq:{{alerts}}:delivery:{both[0].id}": other.now})
            store.set(f"nq:{{alerts}}:delivery:{both[0].id}", msgspec.json.encode(both[0]))
        for second in range(0, 60, 10):
            rig.now = other.now = NOW + minute * 60 + second
            while rig.sender.step():
                pass
            while other.sender.step():
                told.append(second)
    assert told == [0] * len(made)  # others have each at once
    down = rig.outbox.down("desk")
    assert down is not None
    assert down.since_s == NOW
    assert rig.outbox.waiting("desk")[0] == len(made)
    tries = rig.count("failed")
    assert tries is not None
    assert 3 < tries < 40  # a receiver that is down is not hammered

    hooks.requests.clear()
    back = Rig(store, hooks.url, secret)  # a new process, too: what it knows of the receiver stands in Redis
    back.now = NOW + 3_600
    while rig.outbox.waiting("desk")[0]:
        back.sender.step()
        back.now += 1
    assert back.now < NOW + 3_600 + 360 + 2 * len(made)  # the longest rest, then one a second here
    assert in_order(taken(hooks)) == in_order([(one.id, event) for event, one in made])
    assert rig.outbox.down("desk") is None
    assert rig.outbox.dead_count() == 0


def test_beyond_the_limit_a_minute_one_digest_lists_the_rest(
    store: redis.Redis, hooks: Any, secret: str, alert: Alert
) -> None:
    rig = Rig(store, hooks.url, secret, per_minute=5)
    made = changes(alert, 30)
    for event, one in made:
        put(rig, event, one)
        rig.now += 0.01
    hooks.answers = [204, 204, 204, 204, 500]
    for _ in range(10):
        rig.sender.step()
    assert len(hooks.requests) == 5
    ids = [headers["webhook-id"] for headers, _ in hooks.requests]
    later = msgspec.structs.replace(made[-1][1], revision=9, status="resolved")
    after = deliveries("alert.resolved", later, ["desk"], rig.now)[0]
    after = msgspec.structs.replace(after, id="msg_later", after=(deliveries(*made[-1], ["desk"], 0)[0].id,))
    store.set("nq:{alerts}:delivery:msg_later", msgspec.json.encode(after))
    store.zadd("nq:{alerts}:due:desk", {"nq:{alerts}:delivery:msg_later": rig.now})
    for _ in range(80):
        rig.now += 1
        rig.sender.step()
    assert [headers["webhook-id"] for headers, _ in hooks.requests][4:6] == [ids[4]] * 2  # the digest again, by its id
    del hooks.requests[4]
    assert taken(hooks) == [*((one.id, event) for event, one in made), (later.id, "alert.resolved")]
    assert len(hooks.requests) == 6
    assert (
        rig.registry.get_sample_value("newsquake_alerts_deliveries_held_back_total", {"receiver": "desk"})
        == len(made) - 4
    )
    assert [line.event for line in rig.outbox.told(later.id)] == ["alert.digest", "alert.resolved"]


def test_the_limit_a_minute_holds_across_a_takeover(store: redis.Redis, hooks: Any, secret: str, alert: Alert) -> None:
    for number, (event, one) in enumerate(changes(alert, 30)):
        rig = Rig(store, hooks.url, secret, per_minute=5)  # another process each time
        rig.now += number
        put(rig, event, one)
        rig.sender.step()
    assert len(hooks.requests) == 5
    rig.now = NOW + 60
    for _ in range(10):
        rig.sender.step()
        rig.now += 1
    assert in_order(taken(hooks)) == in_order([(one.id, event) for event, one in changes(alert, 30)])


def test_a_receiver_that_asks_for_time_gets_it_for_all_it_is_sent(rig: Rig, hooks: Any, alert: Alert) -> None:
    hooks.answers = [(429, {"Retry-After": "90"}), 429]
    for event, one in changes(alert, 3):
        put(rig, event, one)
    for second in range(140):
        rig.now = NOW + second
        rig.sender.step()
        assert len(hooks.requests) == (1 if second < 90 else 2 if second < 120 else len(hooks.requests))
    del hooks.requests[:2]
    assert in_order(taken(hooks)) == in_order([(one.id, event) for event, one in changes(alert, 3)])
    assert all(line.attempts == 1 for line in rig.outbox.told(f"{0:032x}"))  # to be asked to wait is no failure


def test_one_bad_message_does_not_keep_a_good_receiver_shut(
    rig: Rig, hooks: Any, alert: Alert, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = HttpChannel._post
    bad = "f" * 32

    async def picky(self: HttpChannel, request: Any) -> Any:
        if bad.encode() in request.body:
            return Answer(400, None, b"")
        return await real(self, request)

    monkeypatch.setattr(HttpChannel, "_post", picky)
    put(rig, "alert.firing", msgspec.structs.replace(alert, id=bad))
    for _ in range(2_000):
        rig.now += 1
        rig.sender.step()
    assert rig.outbox.down("desk") is not None
    put(rig, "alert.firing", alert)
    put(rig, "alert.firing", msgspec.structs.replace(alert, id="b" * 32))
    for _ in range(700):
        rig.now += 1
        rig.sender.step()
    assert [event[0] for event in taken(hooks)] == [alert.id, "b" * 32]
    assert rig.outbox.waiting("desk")[0] == 1


def test_what_nobody_took_for_days_is_given_up(rig: Rig, hooks: Any, alert: Alert) -> None:
    hooks.usual = 500
    for event, one in changes(alert, 4):
        put(rig, event, one)
    while rig.outbox.waiting("desk")[0]:
        rig.now += 3_000
        while rig.sender.step():
            pass
    assert rig.outbox.dead_count() == len(changes(alert, 4))
    assert rig.now <= NOW + KEEP_S + 6_000


def test_what_was_given_up_long_ago_is_sent_again_even_while_the_receiver_seems_down(
    rig: Rig, hooks: Any, alert: Alert
) -> None:
    hooks.usual = 500
    for name in "abcd":
        rig.fire(msgspec.structs.replace(alert, id=name * 32))
    for _ in range(3):
        rig.sender.step()
    assert rig.outbox.down("desk") is not None
    rig.now += KEEP_S + 60
    while rig.outbox.waiting("desk")[0]:
        rig.sender.step()
    assert rig.outbox.dead_count() == 4
    hooks.usual = 204
    assert replay(rig.outbox, lambda _: True, rig.now).due == 4
    for _ in range(5):
        rig.now += 400
        rig.sender.step()
    assert (rig.outbox.dead_count(), rig.count("delivered")) == (0, 4)


def test_a_clock_that_steps_back_neither_silences_nor_floods_a_receiver() -> None:
    breaker, pace = Breaker(), Pace(2)
    for _ in range(3):
        breaker.failed(NOW, "away")
    assert not breaker.allows(NOW)
    assert breaker.allows(NOW - 7_200)
    pace.sent(NOW)
    pace.sent(NOW)
    assert pace.room(NOW - 7_200) == 0
    assert pace.room(NOW - 7_140) == 2
