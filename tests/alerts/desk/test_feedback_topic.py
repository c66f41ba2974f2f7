"""What analysts say comes to Kafka in its order, whichever desk sends it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kafka.errors import KafkaTimeoutError
from prometheus_client import CollectorRegistry
from redis import Redis

from alerts.desk.feedback_topic import FeedbackTopic, Kafka
from alerts.desk.metrics import DeskMetrics
from alerts.feedback import OUTBOX, Feedback, decode_said, said


class Broker:
    """Takes what producers send once `opened`; each of them can fail once."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.fails = 0
        self.sent: list[tuple[Producer, str]] = []
        self.closed: list[Producer] = []


class Producer:
    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def send(self, topic: str, *, key: bytes, value: bytes) -> Producer:
        self._broker.sent.append((self, decode_said(value).value))
        return self

    def get(self, timeout: float) -> None:
        if self._broker.fails:
            self._broker.fails -= 1
            raise KafkaTimeoutError
        self._broker.opened.wait(timeout)

    def close(self, timeout: float) -> None:
        self._broker.closed.append(self)
        raise KafkaTimeoutError  # it does so when it holds something still


def wait_for(what: Callable[[], object]) -> None:
    end = time.monotonic() + 20
    while not what():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    made = Broker()
    monkeypatch.setattr(FeedbackTopic, "_producer", lambda _: Producer(made))
    return made


@pytest.fixture
def desks(store: Redis, broker: Broker) -> Iterator[list[FeedbackTopic]]:
    made = [FeedbackTopic(store, Kafka("broker:9092"), DeskMetrics(CollectorRegistry())) for _ in range(2)]
    yield made
    broker.opened.set()
    for each in made:
        each.stop()


def test_of_two_desks_one_sends_and_the_other_goes_on_when_it_ends(
    store: Redis, broker: Broker, desks: list[Any]
) -> None:
    feedback = Feedback(store)
    for each in desks:
        each.start()
    feedback.post(said("jo", "alert", "useful", alert="a"))
    wait_for(lambda: broker.sent)
    feedback.post(said("jo", "alert", "false_alarm", alert="a"))
    time.sleep(1.5)  # the other one has looked
    assert [value for _, value in broker.sent] == ["useful"]
    broker.opened.set()
    wait_for(lambda: not store.xlen(OUTBOX))
    desks[0].stop()
    feedback.post(said("jo", "alert", "useful", alert="a"))
    wait_for(lambda: not store.xlen(OUTBOX))
    desks[1].stop()
    assert [value for _, value in broker.sent] == ["useful", "false_alarm", "useful"]


def test_a_producer_that_failed_sends_nothing_later(store: Redis, broker: Broker, desks: list[Any]) -> None:
    broker.opened.set()
    broker.fails = 1
    Feedback(store).post(said("jo", "alert", "useful", alert="a"))
    desks[0].start()
    wait_for(lambda: not store.xlen(OUTBOX))
    (failed, _), (second, _) = broker.sent
    assert failed is not second
    assert broker.closed == [failed]
