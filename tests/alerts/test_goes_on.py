"""An error that nobody foresaw ends no part of alerting for good: it is counted, said, and things go on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from prometheus_client import CollectorRegistry
from redis.exceptions import ResponseError

from alerts.dispatch import Dispatcher
from alerts.engine import AlertEngine
from alerts.leader import Leader
from alerts.metrics import AlertsMetrics
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
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.alerting.run, args=(self.stopped,))

    def start(self) -> None:
        self.thread.start()

    def stop(self) -> None:
        self.stopped.set()
        self.thread.join(20)
        assert not self.thread.is_alive()

    def failures(self, part: str) -> float:
        return self.registry.get_sample_value("newsquake_alerts_unexpected_errors_total", {"part": part}) or 0.0

    def leads(self) -> bool:
        return self.registry.get_sample_value("newsquake_alerts_leader") == 1

    @property
    def unready(self) -> bool:
        """Whether it says that alerting cannot be led, or that nothing is judged."""
        return any(why.startswith(("alerting cannot", "nothing is", "Redis")) for why in self.alerting.health()[1])


@pytest.fixture
def running(store: redis.Redis, one_server: str) -> Iterator[Running]:
    made = Running(one_server)
    yield made
    if made.thread.ident is not None:
        made.stop()


@pytest.fixture
def fail_once(monkeypatch: pytest.MonkeyPatch) -> Callable[[type, str], threading.Event]:
    """Has a method fail as nobody foresaw, once, at a call; the event is set when it was called again."""

    def make(of: type, name: str, at: int = 1) -> threading.Event:
        again, calls = threading.Event(), list[int]()
        usual: Any = getattr(of, name)

        def fails(*args: Any, **kwargs: Any) -> Any:
            calls.append(1)
            if len(calls) == at:
                raise RuntimeError("nobody thought of this")
            if len(calls) > at:
                again.set()
            return usual(*args, **kwargs)

        monkeypatch.setattr(of, name, fails)
        return again

    return make


@pytest.mark.parametrize(
    ("of", "name", "at", "part"),
    [
        (Leader, "stand", 1, "leading"),
        (Outbox, "drop_unknown", 1, "leading"),
        (Alerting, "_parts", 1, "leading"),
        (Leader, "_call", 2, "leading"),  # the first renewal
        (Leader, "_renew", 1, "leading"),
        (Dispatcher, "run", 1, "leading"),
        (AlertEngine, "tick", 1, "judging"),
    ],
)
def test_alerting_leads_again(
    running: Running, fail_once: Callable[..., threading.Event], of: type, name: str, at: int, part: str
) -> None:
    again = fail_once(of, name, at)
    running.start()
    assert again.wait(20)
    _wait_for(lambda: running.leads() and not running.unready)
    assert running.thread.is_alive()
    assert running.failures(part) == 1
    assert _keepers() == 1


@pytest.mark.parametrize("broken", ["parts", "keeper"])
def test_who_cannot_lead_gives_the_lead_up_to_who_can(
    running: Running, one_server: str, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    def no_parts(_: Alerting) -> None:
        raise OSError(24, "Too many open files")

    usual = threading.Thread.start

    def no_keeper(thread: threading.Thread) -> None:
        if thread.name == "leader":
            raise RuntimeError("can't start new thread")
        usual(thread)

    if broken == "parts":
        monkeypatch.setattr(Alerting, "_parts", no_parts)
    else:
        monkeypatch.setattr(threading.Thread, "start", no_keeper)
    other = Leader(one_server, AlertsMetrics(CollectorRegistry()), ttl_s=60.0)
    running.start()
    _wait_for(lambda: running.failures("leading") > 0)
    assert not running.leads()
    _wait_for(other.stand)
    assert running.unready
    running.stop()
    assert _keepers() == 0
    other.close()


def test_a_part_that_fails_again_and_again_is_said_and_waited_for(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []

    def fails(*_: object) -> None:
        raise RuntimeError("nobody thought of this")

    def wait(event: threading.Event, timeout_s: float | None = None) -> bool:
        if event is running.stopped and running.unready and timeout_s:
            waits.append(timeout_s)
            timeout_s = 0.01
        return usual(event, timeout_s)

    usual = threading.Event.wait
    monkeypatch.setattr(threading.Event, "wait", wait)
    monkeypatch.setattr(Dispatcher, "run", fails)
    running.start()
    _wait_for(lambda: len(waits) >= 4)
    assert waits[:4] == [1.0, 2.0, 4.0, 5.0]
    assert running.failures("leading") >= 4


def test_a_lead_that_cannot_be_given_up_runs_out(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = Leader._call

    def call(leader: Leader, ttl_s: float) -> str:
        if ttl_s == 0:
            raise RuntimeError("nobody thought of this")
        return usual(leader, ttl_s)

    monkeypatch.setattr(Leader, "_call", call)
    running.start()
    _wait_for(running.leads)
    running.stop()
    assert not running.leads()
    assert running.failures("leading") == 1


def _wait_for(what: Callable[[], object]) -> None:
    end = time.monotonic() + 20
    while not what():
        assert time.monotonic() < end
        time.sleep(0.02)


def _keepers() -> int:
    return sum(thread.name == "leader" for thread in threading.enumerate())


@pytest.mark.parametrize("failure", [RuntimeError("nobody thought of this"), ResponseError("WRONGTYPE it is a string")])
def test_what_cannot_be_shown_keeps_nothing_from_being_judged(
    running: Running, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    looks, watches = list[int](), list[int]()
    usual = AlertEngine.tick

    def tick(engine: AlertEngine) -> bool:
        looks.append(1)
        return usual(engine)

    def watch(_: Alerting) -> None:
        watches.append(1)
        raise failure

    monkeypatch.setattr(AlertEngine, "tick", tick)
    monkeypatch.setattr(Alerting, "_watch", watch)
    running.start()
    _wait_for(lambda: watches and len(looks) >= 4)
    assert running.failures("watching") == len(watches) == 1
    assert not running.unready
