"""Publishing goes on after whatever Kafka's client does."""

from __future__ import annotations

import math
import threading
import time
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
import redis
from kafka.errors import KafkaTimeoutError, MessageSizeTooLargeError
from prometheus_client import CollectorRegistry

from alerts import publish, rebuild
from alerts.alert import Alert
from alerts.life import AlertView, Transition, changed, follow, revised
from alerts.metrics import AlertsMetrics
from alerts.publish import CURSOR, SENT, KafkaPlace, Publisher
from alerts.store import AlertStore

AT = datetime(2026, 11, 24, 12, tzinfo=UTC)


class Refused:
    """What the broker takes no record for."""

    def get(self, timeout: float) -> None:
        raise MessageSizeTooLargeError


class Producer:
    """One that fails as long as there are failures left, and then does not even close in time."""

    failures = 0
    too_large: str = ""
    sent: list[tuple[bytes, bytes | None]]

    def __init__(self, **_: Any) -> None:
        self.fails = Producer.failures > 0
        Producer.failures -= 1

    def send(self, topic: str, *, key: bytes, value: bytes | None) -> Producer | Refused:
        Producer.sent.append((key, value))
        return Refused() if key == Producer.too_large.encode() else self

    def get(self, timeout: float) -> None:
        assert not self.fails

    def flush(self, timeout: float) -> None:
        if self.fails:
            raise KafkaTimeoutError

    def close(self, timeout: float) -> None:
        self.flush(timeout)


@pytest.fixture
def publisher(store: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> Publisher:
    monkeypatch.setattr(publish, "KafkaProducer", Producer)
    monkeypatch.setattr(Producer, "sent", [], raising=False)
    monkeypatch.setattr(rebuild, "last_values", lambda _: {})
    return Publisher(store, KafkaPlace("broker:9092", {}, "alerts"), AlertsMetrics(CollectorRegistry()))


def test_a_record_that_the_broker_finds_too_large_holds_up_no_other(
    store: redis.Redis, alert: Alert, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Producer, "too_large", alert.id)
    AlertStore(store).put(alert)
    AlertStore(store).put(msgspec.structs.replace(alert, id="f" * 32, series="company=JPM"))
    publisher.step()
    assert store.get(CURSOR) is not None
    assert (publisher._metrics.published._value.get(), publisher._metrics.publish_errors._value.get()) == (1, 1)


def test_of_a_long_history_silences_go_first_and_notes_stay(
    store: redis.Redis, alert: Alert, publisher: Publisher
) -> None:
    alerts = AlertStore(store)
    alerts.put(alert)
    for number in range(400):
        event: Any = "noted" if number in (50, 150) else ("unsilenced" if number % 2 else "silenced")
        alerts.step(alert.id, lambda view, event=event: changed(view.life, view.alert, event, "firing", at=AT))
    publisher.step()
    view = alerts.view(alert.id)
    assert view is not None
    sent = msgspec.json.decode(Producer.sent[-1][1] or b"", type=AlertView)
    assert len(sent.transitions) == 320
    assert [step.event for step in sent.transitions].count("noted") == 2
    assert sent.transitions[:20] == view.transitions[:20]
    assert sent.transitions[-240:] == view.transitions[-240:]
    assert [step for step in view.transitions if step in sent.transitions] == [*sent.transitions]


def test_of_a_long_history_without_silences_the_first_and_the_last_are_kept(alert: Alert) -> None:
    life, steps = None, list[Transition]()
    for number in range(400):
        event: Any = "acknowledged" if number % 2 else "unacknowledged"
        steps += revised(None, alert) if life is None else [changed(life, alert, event, "firing", at=AT)]
        life = follow(life, steps[-1])
    assert life is not None
    sent = msgspec.json.decode(publish._encode(AlertView(alert=alert, life=life, transitions=tuple(steps))))
    assert [each["key"] for each in sent["transitions"]] == [step.key for step in steps[:20] + steps[-300:]]


def test_what_the_version_before_sent_is_swept_too(
    store: redis.Redis, alert: Alert, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebuild, "last_values", lambda _: {"silence:old": b"{}", "e" * 32: b"{}"})
    AlertStore(store).put(alert)
    publisher.step()
    assert (b"silence:old", None) in Producer.sent
    assert set(store.zrange(SENT, 0, -1)) == {alert.id.encode(), b"e" * 32}
    store.zadd(SENT, {"e" * 32: 0})  # 90 days later
    publisher._swept_s = -math.inf
    publisher.step()
    assert Producer.sent[-1] == (b"e" * 32, None)


def test_a_producer_that_does_not_close_in_time_ends_nothing(
    store: redis.Redis, alert: Alert, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Producer, "failures", 2)
    AlertStore(store).put(alert)
    stop = threading.Event()
    thread = threading.Thread(target=publisher.run, args=(stop,), kwargs={"poll_s": 0.05})
    thread.start()
    end = time.monotonic() + 20
    while store.get(CURSOR) is None and time.monotonic() < end:
        time.sleep(0.02)
    stop.set()
    thread.join(20)
    assert store.get(CURSOR) is not None
