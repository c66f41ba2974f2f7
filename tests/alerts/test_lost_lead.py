"""A process that has lost the lead sends nothing more, however long its engine is in a look at the windows."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
import redis
import redis.asyncio
from prometheus_client import CollectorRegistry

from alerts import rebuild
from alerts.actions import Actions
from alerts.alert import Alert
from alerts.breaker import Down
from alerts.delivery import delivery_key, delivery_of, due_key
from alerts.engine import AlertEngine
from alerts.leader import LEADER
from alerts.metrics import AlertsMetrics
from alerts.notification import Notification
from alerts.outbox import Outbox
from alerts.publish import KafkaPlace, Publisher
from alerts.sender import Sender
from alerts.service import Alerting
from alerts.settings import AlertsSettings
from alerts.store import FENCE, AlertStore, FencedError
from alerts.windows import Windows
from tests.alerts.rig import deliveries, queue


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


@pytest.fixture
def alerting(store: redis.Redis, one_server: str, secret: str) -> Iterator[Callable[..., Alerting]]:
    """Starts alerting in a thread of this process."""
    stop, started = threading.Event(), []

    def start(**fields: Any) -> Alerting:
        receiver = {"type": "webhook", "name": "desk", "url": "https://desk.example", "secrets": [secret]}
        settings = AlertsSettings.model_validate({"receivers": [receiver], "poll_s": 0.01})
        place = {"redis_url": one_server, "documents_topic": "d", "partitions": 1, "registry": CollectorRegistry()}
        made = Alerting(settings, **{**place, "lead_s": 0.5, **fields})
        started.append(threading.Thread(target=made.run, args=(stop,)))
        started[-1].start()
        return made

    yield start
    stop.set()
    for thread in started:
        thread.join(20)


def _until(true: Callable[[], object]) -> None:
    """Wait; pytest's timeout ends what never comes."""
    while not true():
        time.sleep(0.01)


def test_who_leads_says_how_late_each_receiver_is_told_and_who_leads_no_more_does_not(
    store: redis.Redis, alerting: Callable[..., Alerting], alert: Alert, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Sender, "run", lambda _, stop: stop.wait())
    registry = CollectorRegistry()

    def late_s() -> float:
        return registry.get_sample_value("newsquake_alerts_oldest_due_seconds", {"receiver": "desk"}) or 0.0

    due_s = time.time() - 100
    queue(store, deliveries("alert.firing", alert, ["desk"], due_s), due_s)
    waits = alerting(registry=registry)
    _until(lambda: late_s() > 99)
    Outbox(store).set_down("desk", Down(since_s=due_s, reason="away", wait_s=30.0, probe_s=due_s))
    _until(lambda: not late_s())  # what it is due is meant to wait
    Outbox(store).set_down("desk", None)
    _until(late_s)
    store.set(LEADER, "another")
    _until(lambda: waits.standing_by)
    assert not late_s()


def test_who_leads_begins_anew_when_redis_was_emptied(
    store: redis.Redis, alerting: Callable[..., Alerting], monkeypatch: pytest.MonkeyPatch
) -> None:
    rebuilt: list[Any] = []
    monkeypatch.setattr(Alerting, "_rebuild", lambda *_: rebuilt.append(store.get(FENCE)))
    alerting()
    _until(lambda: len(rebuilt) == 1)
    store.flushall()
    _until(lambda: len(rebuilt) == 2)
    assert rebuilt[0] != rebuilt[1]


def test_who_is_refused_a_write_leads_no_more(
    store: redis.Redis, alerting: Callable[..., Alerting], alert: Alert, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AlertEngine, "tick", lambda _: False)  # it writes nothing and notices nothing
    alerting(lead_s=600.0)  # nor does who renews the lead
    _until(lambda: store.get(FENCE))
    before = store.get(FENCE)
    store.set(FENCE, "99:another")
    AlertStore(store).put(alert)
    _until(lambda: store.get(FENCE) not in (b"99:another", before))
    _until(lambda: Outbox(store).waiting("desk")[0])  # and as it leads anew it goes on


def test_who_leads_again_goes_on_from_what_another_left(
    store: redis.Redis, one_server: str, alerting: Callable[..., Alerting], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    waits = alerting()
    _until(lambda: "learns before it judges" in caplog.text)
    store.set(LEADER, "another")
    _until(lambda: waits.standing_by)

    async def idle() -> None:
        async with redis.asyncio.Redis.from_url(one_server) as client:
            await Windows(client).idle("d", 0, int(time.time() * 1000))

    asyncio.run(idle())
    other = AlertEngine(
        AlertsSettings(), redis_url=one_server, documents_topic="d", partitions=1, registry=CollectorRegistry()
    )
    other.tick()
    other.save()
    caplog.clear()
    store.delete(LEADER)
    _until(lambda: "alerting goes on after minute" in caplog.text)


def test_a_publisher_that_slept_since_it_read_sends_nothing(
    store: redis.Redis, alert: Alert, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Any] = []
    publisher = Publisher(store, KafkaPlace("", {}, "t"), AlertsMetrics(CollectorRegistry()), lambda: "1:old")
    monkeypatch.setattr(publisher, "_send", lambda records: sent.append(records) or len(records))
    monkeypatch.setattr(rebuild, "last_values", lambda _: {})
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
