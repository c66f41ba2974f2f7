"""What is kept of an alert's deliveries is bounded, and what is not kept is counted."""

from __future__ import annotations

import msgspec
import redis

from alerts.alert import Alert
from alerts.delivery import Delivery
from alerts.digest import digest_of
from alerts.history import PLACES, told_key
from alerts.replay import replay
from tests.alerts.rig import Rig, deliveries, queue

MOST = PLACES["alert.digest"]


def _digest(rig: Rig, alert: Alert, number: int) -> Delivery:
    """A digest of two messages about an alert, which waits."""
    rig.now += 60
    (first,), (second,) = (deliveries("alert.repeated", alert, ["desk"], rig.now + part) for part in (0, 1))
    members = [msgspec.structs.replace(each, id=f"m{number}-{n}") for n, each in enumerate((first, second))]
    digest = digest_of(members, alert.updated_at)
    queue(rig.redis, [digest], rig.now)
    return digest


def test_digests_without_end_do_not_fill_an_alert_s_history(rig: Rig, alert: Alert, store: redis.Redis) -> None:
    made = []
    for number in range(MOST + 70):
        digest = _digest(rig, alert, number)
        assert rig.outbox.retry(digest, rig.now, rig.now)
        assert rig.outbox.told(alert.id)[-1].status == "failed"
        assert rig.outbox.done(digest, rig.now + 1)
        made.append(digest.id)
    history = rig.outbox.history(alert.id)
    assert ([line.id for line in history.lines], history.more) == (made[-MOST:], 70)
    assert {line.status for line in history.lines} == {"delivered"}
    assert store.hlen(told_key(alert.id)) == MOST
    assert 0 < store.ttl(f"{told_key(alert.id)}:counts") <= store.ttl(told_key(alert.id))


def test_one_that_was_given_up_is_superseded_where_it_stands_and_sent_again_where_it_is_news(
    rig: Rig, alert: Alert, store: redis.Redis
) -> None:
    old = _digest(rig, alert, 0)
    assert rig.outbox.give_up(old, rig.now)
    for number in range(1, MOST + 2):
        assert rig.outbox.done(_digest(rig, alert, number), rig.now + 1)
    late = _digest(rig, alert, MOST + 2)
    assert rig.outbox.give_up(late, rig.now + 2)
    assert rig.outbox.history(alert.id).more == 1
    assert replay(rig.outbox, lambda _: True, rig.now + 3)[:3] == (1, 0, 1)
    status = {line.id: line.status for line in rig.outbox.told(alert.id)}
    assert (status[old.id], status[late.id]) == ("superseded", "dead")
    assert rig.outbox.done(late, rig.now + 4)
    status = {line.id: line.status for line in rig.outbox.told(alert.id)}
    assert (status[old.id], status[late.id]) == ("superseded", "delivered")
    assert store.hlen(told_key(alert.id)) == MOST + 1


def test_what_was_sent_again_never_looks_given_up(rig: Rig, alert: Alert, store: redis.Redis) -> None:
    """Its line among those given up is not to outlive that which says that it was delivered."""
    store.hset(told_key(alert.id), "x", b"\xff")
    digest = _digest(rig, alert, 0)
    assert rig.outbox.give_up(digest, rig.now)
    for _ in range(2):  # it is given up again, too
        assert replay(rig.outbox, lambda _: True, rig.now + 1).due == 1
        assert [line.status for line in rig.outbox.told(alert.id)] == ["dead"]
        assert rig.outbox.give_up(digest, rig.now + 2)
    assert replay(rig.outbox, lambda _: True, rig.now + 3).due == 1
    assert rig.outbox.done(digest, rig.now + 4)
    assert [line.status for line in rig.outbox.told(alert.id)] == ["delivered"]
    for number in range(1, MOST + 1):
        assert rig.outbox.done(_digest(rig, alert, number), rig.now + 1)
    history = rig.outbox.history(alert.id)
    assert {line.status for line in history.lines} == {"delivered"}
    assert (len(history.lines), history.more) == (MOST, 1)
    assert store.hlen(told_key(alert.id)) == MOST + 1


def test_repeats_are_counted(rig: Rig, alert: Alert) -> None:
    for number in range(5):
        (repeat,) = deliveries("alert.repeated", alert, ["desk"], rig.now + number)
        repeat = msgspec.structs.replace(repeat, id=f"msg_{number}")
        queue(rig.redis, [repeat], rig.now)
        assert rig.outbox.done(repeat, rig.now + number)
    history = rig.outbox.history(alert.id)
    assert ([line.id for line in history.lines], history.more) == (["msg_4"], 4)
