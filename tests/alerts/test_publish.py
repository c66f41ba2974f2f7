"""Publishing goes on after whatever Kafka's client does."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
import redis
from kafka.errors import KafkaTimeoutError
from prometheus_client import CollectorRegistry

from alerts import publish
from alerts.alert import Alert
from alerts.metrics import AlertsMetrics
from alerts.publish import CURSOR, KafkaPlace, Publisher
from alerts.store import AlertStore


class Producer:
    """One that fails as long as there are failures left, and then does not even close in time."""

    failures = 2

    def __init__(self, **_: Any) -> None:
        self.fails = Producer.failures > 0
        Producer.failures -= 1

    def send(self, topic: str, *, key: bytes, value: bytes | None) -> Producer:
        return self

    def get(self, timeout: float) -> None:
        assert not self.fails

    def flush(self, timeout: float) -> None:
        if self.fails:
            raise KafkaTimeoutError

    def close(self, timeout: float) -> None:
        self.flush(timeout)


def test_a_producer_that_does_not_close_in_time_ends_nothing(
    store: redis.Redis, alert: Alert, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish, "KafkaProducer", Producer)
    monkeypatch.setattr(Producer, "failures", 2)
    AlertStore(store).put(alert)
    publisher = Publisher(store, KafkaPlace("broker:9092", {}, "alerts"), AlertsMetrics(CollectorRegistry()))
    stop = threading.Event()
    thread = threading.Thread(target=publisher.run, args=(stop,), kwargs={"poll_s": 0.05})
    thread.start()
    end = time.monotonic() + 20
    while store.get(CURSOR) is None and time.monotonic() < end:
        time.sleep(0.02)
    stop.set()
    thread.join(20)
    assert store.get(CURSOR) is not None
