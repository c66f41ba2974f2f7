"""An error that nobody foresaw ends no part of alerting for good: it is counted, said, and things go on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from prometheus_client import CollectorRegistry

from alerts.dispatch import Dispatcher
from alerts.engine import AlertEngine
from alerts.leader import Leader
from alerts.outbox import Outbox
from alerts.service import Alerting
from alerts.settings import AlertsSettings


class Running:
    """Alerting in a thread, on a Redis without windows."""

    def __init__(self, url: str) -> None:
        self.registry = CollectorRegistry()
        receiver = {"type": "webhook", "name": "desk", "url": "https://example.org", "secrets": ["whsec_" + "A" * 32]}
        settings = AlertsSettings.model_validate({"receivers": [receiver]})
        self.alerting = Alerting(
            settings, redis_url=url, documents_topic="d", partitions=1, registry=self.registry, lead_s=0.5
        )
        self._stop = threading.Event()
        self.thread = threading.Thread(target=self.alerting.run, args=(self._stop,))

    def start(self) -> None:
        self.thread.start()

    def stop(self) -> None:
        self._stop.set()
        self.thread.join(20)
        assert not self.thread.is_alive()

    def failures(self, part: str) -> float:
        return self.registry.get_sample_value("newsquake_alerts_unexpected_errors_total", {"part": part}) or 0.0

    def leads(self) -> bool:
        return self.registry.get_sample_value("newsquake_alerts_leader") == 1


@pytest.fixture
def running(store: redis.Redis, one_server: str) -> Iterator[Running]:
    made = Running(one_server)
    yield made
    if made.thread.ident is not None:
        made.stop()


@pytest.fixture
def fail_once(monkeypatch: pytest.MonkeyPatch) -> Callable[[type, str], threading.Event]:
    """Has a method fail as nobody foresaw, once; the event is set when it was called again."""

    def make(of: type, name: str) -> threading.Event:
        again, calls = threading.Event(), list[int]()
        usual: Any = getattr(of, name)

        def fails(*args: Any, **kwargs: Any) -> Any:
            calls.append(1)
            if len(calls) == 1:
                raise RuntimeError("nobody thought of this")
            again.set()
            return usual(*args, **kwargs)

        monkeypatch.setattr(of, name, fails)
        return again

    return make


@pytest.mark.parametrize(
    ("of", "name", "part"),
    [
        (Leader, "stand", "leading"),
        (Outbox, "drop_unknown", "leading"),
        (Leader, "_call", "leading"),
        (Leader, "_renew", "leading"),
        (Dispatcher, "run", "leading"),
        (AlertEngine, "tick", "judging"),
    ],
)
def test_alerting_leads_again(
    running: Running, fail_once: Callable[..., threading.Event], of: type, name: str, part: str
) -> None:
    again = fail_once(of, name)
    running.start()
    assert again.wait(20)
    end = time.monotonic() + 20
    while not running.leads() or any("nobody thought" in why for why in running.alerting.health()[1]):
        assert time.monotonic() < end
        time.sleep(0.02)
    assert running.thread.is_alive()
    assert running.failures(part) == 1


def test_what_cannot_be_shown_keeps_nothing_from_being_judged(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, watches = list[int](), list[int]()
    usual = AlertEngine.tick

    def tick(engine: AlertEngine) -> bool:
        looks.append(1)
        return usual(engine)

    def watch(_: Alerting) -> None:
        watches.append(1)
        raise RuntimeError("nobody thought of this")

    monkeypatch.setattr(AlertEngine, "tick", tick)
    monkeypatch.setattr(Alerting, "_watch", watch)
    running.start()
    end = time.monotonic() + 20
    while not watches or len(looks) < 4:
        assert time.monotonic() < end
        time.sleep(0.02)
    assert running.failures("watching") == len(watches) == 1
    assert not any("nobody thought" in why for why in running.alerting.health()[1])
