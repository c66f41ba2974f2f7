"""What another version or another hand left in Redis or on Kafka holds up nothing that can be read."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
import redis
from prometheus_client import CollectorRegistry

from alerts import publish, rebuild
from alerts.alert import Alert
from alerts.dispatch import Dispatcher
from alerts.metrics import AlertsMetrics
from alerts.publish import KafkaPlace, Publisher
from alerts.rules import Rules
from alerts.settings import AlertsSettings
from alerts.silences import Silences, lay_silences
from alerts.store import LOG, AlertStore
from tests.alerts.rig import Rig

AT = datetime(2026, 3, 9, 18, 4, tzinfo=UTC)
DEEP = b'{"x":' + b"[" * 100_000
NAIVE = msgspec.json.encode(
    {
        "id": "s1",
        "matchers": [{"name": "series", "op": "=", "value": "market"}],
        "starts_at": "2026-03-09T18:00:00",
        "ends_at": "2036-03-09T18:00:00",
        "created_at": "2026-03-09T18:00:00",
        "author": "x",
        "reason": "x",
    }
)
PLACE = KafkaPlace("broker:9092", {}, "alerts")


def _strew(store: redis.Redis) -> None:
    for raw in (b"\xff", b"{}", DEEP):
        store.xadd(LOG, {"line": raw})
    store.xadd(LOG, {"other": b"field"})


def test_the_log_is_listed_without_what_is_none_of_it(
    store: redis.Redis, alert: Alert, caplog: pytest.LogCaptureFixture
) -> None:
    alerts = AlertStore(store)
    _strew(store)
    assert alerts.put(alert)
    _strew(store)
    assert [step.alert for step in alerts.log()] == [alert.id]
    assert caplog.text.count("is no transition and is passed over") == 8


def test_the_dispatcher_and_the_publisher_pass_over_what_is_no_transition(
    store: redis.Redis, alert: Alert, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[bytes] = []
    monkeypatch.setattr(rebuild, "last_values", lambda _: {})
    monkeypatch.setattr(Publisher, "_send", lambda _, records: sent.extend(records) or len(records))
    metrics = AlertsMetrics(CollectorRegistry())
    rules = Rules(AlertsSettings())
    dispatcher = Dispatcher(store, lambda: rules, metrics)
    publisher = Publisher(store, PLACE, metrics)
    dispatcher.step(AT.timestamp(), AT.timestamp())
    _strew(store)
    assert AlertStore(store).put(alert)
    dispatcher.step(AT.timestamp(), AT.timestamp())
    store.set(publish.CURSOR, "0-1")
    publisher.step()
    last = store.xrevrange(LOG, count=1)[0][0]
    assert store.get("nq:{alerts}:dispatch:cursor") == store.get(publish.CURSOR) == last
    assert alert.id.encode() in sent


def test_a_silence_whose_times_have_no_zone_silences_nothing_and_stops_nobody(
    store: redis.Redis, alert: Alert, caplog: pytest.LogCaptureFixture
) -> None:
    assert AlertStore(store).put(alert)
    store.hset("nq:{alerts}:silences", "s1", NAIVE)
    silences = Silences(store)
    for _ in range(3):
        assert not list(lay_silences(AlertStore(store), silences.all(), AT))
    assert silences.get("s1") is None
    assert caplog.text.count("silence b's1' cannot be read and silences nothing") == 1  # not each second


def test_what_is_put_back_from_kafka_leaves_out_what_cannot_be_read(
    store: redis.Redis, alert: Alert, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_alert = AlertStore(store)
    assert with_alert.put(alert)
    view = with_alert.view(alert.id)
    store.flushall()
    records = {"silence:s1": NAIVE, "silence:s2": DEEP, "a": DEEP, "b": b"\xff", alert.id: msgspec.json.encode(view)}
    monkeypatch.setattr(rebuild, "last_values", lambda _: records)
    done = rebuild.rebuild(store, PLACE)
    assert (done.alerts, done.silences, done.unreadable) == (1, 0, 4)


@pytest.mark.parametrize("raw", [b"\xff", b"{}", DEEP])
def test_a_receiver_of_which_nothing_can_be_read_gets_its_messages(
    rig: Rig, hooks: Any, alert: Alert, raw: bytes
) -> None:
    rig.redis.hset("nq:{alerts}:down", "desk", raw)
    rig.redis.hset(f"nq:{{alerts}}:told:{alert.id}", "x", raw)
    rig.fire(alert)
    assert rig.sender.step()
    assert len(hooks.requests) == 1
    assert not rig.redis.hexists("nq:{alerts}:down", "desk")  # else each look at it says so again
    assert [line.status for line in rig.outbox.told(alert.id)] == ["delivered"]


@pytest.mark.parametrize("raw", [b"soon", b"\xff", b"nan", b"-1", b"1e400", b"999999999999"])
def test_a_time_that_is_none_leaves_alerting_to_the_wall(
    store: redis.Redis, raw: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    alerts = AlertStore(store)
    alerts.save_time(1_700_000_000.5)
    assert alerts.load_time() == 1_700_000_000.5
    store.set("nq:{alerts}:now_s", raw)
    for _ in range(3):
        assert alerts.load_time() is None
    assert caplog.text.count("is no time") == 1


def test_times_without_a_zone_are_none(store: redis.Redis, alert: Alert) -> None:
    """One would stop whoever puts them in order."""
    assert AlertStore(store).put(alert)
    other = msgspec.structs.replace(alert, id="f" * 32, started_at=alert.started_at.replace(tzinfo=None))
    store.set(f"nq:{{alerts}}:alert:{other.id}", msgspec.json.encode(other))
    store.sadd("nq:{alerts}:open", other.id)
    assert [each.id for each in AlertStore(store).open()] == [alert.id]


def test_a_failing_part_is_counted_and_goes_on(
    rig: Rig, hooks: Any, alert: Alert, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited = threading.Event()

    class Stop:
        """Set once the sender has waited, which it does after a failure."""

        def is_set(self) -> bool:
            return waited.is_set()

        def wait(self, timeout_s: float) -> bool:
            waited.set()
            return True

    def fails(*_: object) -> None:
        raise RuntimeError("nobody thought of this")

    monkeypatch.setattr(rig.outbox, "disabled", fails)
    stop: Any = Stop()
    rig.sender.run(stop)
    labels = {"part": "sending"}
    assert rig.registry.get_sample_value("newsquake_alerts_unexpected_errors_total", labels) == 1


def test_keys_that_are_no_text_hold_up_nothing(rig: Rig, alert: Alert, monkeypatch: pytest.MonkeyPatch) -> None:
    store, metrics = rig.redis, AlertsMetrics(CollectorRegistry())
    assert AlertStore(store).put(alert)
    store.sadd("nq:{alerts}:open", b"\xff")
    store.zadd("nq:{alerts}:recent", {b"\xff": 2e9})
    store.zadd(b"nq:{alerts}:due:\xff", {b"\xff": 1.0})
    store.hset("nq:{alerts}:down", b"\xff", b"x")
    store.hset("nq:{alerts}:disabled", b"\xff", b"\xff")
    store.hset("nq:{alerts}:dispatch:alerts", b"\xff", b"")
    store.zadd(publish.SENT, {b"\xff": 1.0})
    assert [view.alert.id for view in AlertStore(store).views()] == [alert.id]
    assert [view.alert.id for view in AlertStore(store).views(open=False)] == [alert.id]
    assert [life.alert for life in AlertStore(store).lives()] == [alert.id]
    assert rig.outbox.drop_unknown(["desk"], rig.now) == 0
    assert rig.outbox.troubled() == {"\ufffd": "disabled: \ufffd"}
    rules = Rules(AlertsSettings())
    Dispatcher(store, lambda: rules, metrics).step(AT.timestamp(), AT.timestamp())
    sent: list[bytes] = []
    monkeypatch.setattr(Publisher, "_send", lambda _, records: sent.extend(records) or len(records))
    Publisher(store, PLACE, metrics).step()
    assert set(sent) == {alert.id.encode(), b"\xff"}
