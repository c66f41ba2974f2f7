"""A process that has lost the lead sends nothing more, however long its engine is in a look at the windows."""

from __future__ import annotations

import threading
from typing import Any

import msgspec
import pytest
import redis
from prometheus_client import CollectorRegistry

from alerts.actions import Actions
from alerts.alert import Alert
from alerts.engine import AlertEngine
from alerts.leader import LEADER
from alerts.metrics import AlertsMetrics
from alerts.notification import Notification
from alerts.outbox import Outbox, delivery_key, delivery_of, due_key
from alerts.publish import KafkaPlace, Publisher
from alerts.service import Alerting
from alerts.settings import AlertsSettings
from alerts.store import FENCE, AlertStore, FencedError


def test_senders_end_with_the_lead_and_not_with_the_look(
    store: redis.Redis, one_server: str, hooks: Any, secret: str, alert: Alert, monkeypatch: pytest.MonkeyPatch
) -> None:
    looking, ended = threading.Event(), threading.Event()

    def tick(_: AlertEngine) -> bool:
        looking.set()
        ended.wait(20)
        return False

    monkeypatch.setattr(AlertEngine, "tick", tick)
    receiver = {"type": "webhook", "name": "desk", "url": hooks.url, "secrets": [secret]}
    settings = AlertsSettings.model_validate({"receivers": [{**receiver, "allow_networks": ["127.0.0.0/8"]}]})
    alerting = Alerting(
        settings, redis_url=one_server, documents_topic="d", partitions=1, registry=CollectorRegistry(), lead_s=0.5
    )
    stop = threading.Event()
    running = threading.Thread(target=alerting.run, args=(stop,))
    running.start()
    try:
        assert looking.wait(10)
        senders = [thread for thread in threading.enumerate() if thread.name == "sender-desk"]
        assert senders
        store.set(LEADER, "another")
        store.set(FENCE, "99:another")
        for thread in senders:
            thread.join(10)
            assert not thread.is_alive()
        told = Notification(id="msg_1", receiver="desk", event="alert.firing", alerts=(alert,), at=alert.updated_at)
        delivery = delivery_of(told, 0.0)
        store.set(delivery_key(delivery.id), msgspec.json.encode(delivery))
        store.zadd(due_key("desk"), {delivery_key(delivery.id): 0})
    finally:
        stop.set()
        ended.set()
        running.join(20)
    assert hooks.requests == []
    assert Outbox(store).waiting("desk")[0] == 1


def test_a_publisher_that_slept_since_it_read_sends_nothing(
    store: redis.Redis, alert: Alert, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Any] = []
    publisher = Publisher(store, KafkaPlace("", {}, "t"), AlertsMetrics(CollectorRegistry()), lambda: "1:old")
    monkeypatch.setattr(publisher, "_send", sent.append)
    store.set(FENCE, "1:old")
    AlertStore(store).put(alert)
    publisher.step()
    assert len(sent) == 1
    Actions(store).acknowledge(alert.id, "ana")
    real = publisher._views

    def read_and_sleep(cursor: str, entries: Any) -> Any:
        views = real(cursor, entries)
        store.set(FENCE, "2:new")
        return views

    monkeypatch.setattr(publisher, "_views", read_and_sleep)
    with pytest.raises(FencedError):
        publisher.step()
    assert len(sent) == 1
