"""Receivers that misbehave all at once: the healthy one has its own meanwhile, the others theirs once mended."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import trustme
from prometheus_client import CollectorRegistry

from alerts.alert import Alert
from alerts.channels import channel
from alerts.leader import LEADER
from alerts.outbox import Outbox
from alerts.replay import replay
from alerts.service import _ENDS_S, Alerting
from alerts.settings import AlertsSettings
from alerts.store import AlertStore
from tests.alerts.conftest import Hooks
from tests.alerts.rig import NOW, Rig, changes, deliveries, in_order, queue, taken

ANSWERS: dict[str, Any] = {
    "healthy": 204,
    "slow": "slow",
    "broken": 500,
    "busy": (429, {"Retry-After": "90"}),
    "gone": 410,
    "cut": "reset",
    "led-away": (302, {"location": "http://169.254.169.254/latest/meta-data/"}),
    "misnamed": 204,  # its certificate is another's
    "mute": 204,  # in the hand-shake of TLS it says nothing
}


class Secured:
    """A receiver by TLS that nobody can speak to until it is mended."""

    def __init__(self, ca: trustme.CA) -> None:
        self._ca, self._tls = ca, ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.hooks = Hooks(self._tls)

    def misnamed(self) -> Hooks:
        self._ca.issue_cert("another.example").configure_cert(self._tls)
        return self.hooks

    def mute(self) -> Hooks:
        self.mend()
        self._tls.sni_callback = self._wait
        return self.hooks

    def _wait(self, *_: object) -> None:
        self.hooks.release.wait(10)

    def mend(self) -> None:
        self._ca.issue_cert("127.0.0.1").configure_cert(self._tls)


@pytest.fixture
def secured_ones(tmp_path: Path) -> tuple[Path, dict[str, Secured]]:
    """Those that speak TLS, and the file of their authority."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return tmp_path / "ca.pem", {name: Secured(ca) for name in ("misnamed", "mute")}


@pytest.fixture
def receivers(secured_ones: tuple[Path, dict[str, Secured]]) -> Iterator[dict[str, Hooks]]:
    secured = secured_ones[1]
    with contextlib.ExitStack() as stack:
        found = {name: getattr(secured[name], name)() if name in secured else Hooks() for name in ANSWERS}
        for hooks in found.values():
            stack.callback(hooks.close)
        yield found


def test_each_receiver_has_all_in_order_once_whatever_the_others_do(
    store: redis.Redis,
    receivers: dict[str, Hooks],
    secured_ones: tuple[Path, dict[str, Secured]],
    secret: str,
    alert: Alert,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ca_file, secured = secured_ones
    monkeypatch.setattr(channel, "TIMEOUT_S", 4.0)
    clock_s = [NOW]
    made = changes(alert, 10)

    @contextlib.contextmanager
    def at_work() -> Iterator[dict[str, Rig]]:
        rigs = {name: Rig(store, hooks.url, secret, name=name, ca_file=ca_file) for name, hooks in receivers.items()}
        stop, threads = threading.Event(), []
        for rig in rigs.values():
            rig.sender._clock, rig.sender._poll_s = lambda: clock_s[0], 0.01
            threads.append(threading.Thread(target=rig.sender.run, args=(stop,)))
            threads[-1].start()
        yield rigs
        stop.set()
        for thread in threads:
            thread.join()

    def until(true: Callable[[], object]) -> None:
        """Let time pass, a second in a hundredth; pytest's timeout ends what never comes."""
        while not true():
            clock_s[0] += 1
            time.sleep(0.01)

    for name, hooks in receivers.items():
        hooks.usual = ANSWERS[name]
    with at_work() as rigs:
        for event, one in made:
            clock_s[0] += 1
            queue(store, deliveries(event, one, list(ANSWERS), clock_s[0]), clock_s[0])
        until(lambda: len(receivers["healthy"].requests) == len(made))
        until(lambda: all(receivers[name].requests or rig.count("failed") for name, rig in rigs.items()))
    assert not any(receivers[name].requests for name in secured)
    assert {name for name, rig in rigs.items() if rig.count("delivered")} == {"healthy"}
    assert len(receivers["gone"].requests) == 1

    outbox = rigs["gone"].outbox
    secured["misnamed"].mend()
    for name, hooks in receivers.items():
        hooks.release.set()
        hooks.usual = 204
        if name != "healthy":
            hooks.requests.clear()
    assert outbox.enable("gone")
    assert replay(outbox, lambda _: True, clock_s[0]).due > 0
    with at_work():
        until(lambda: not any(outbox.waiting(name)[0] for name in ANSWERS))
    assert outbox.dead_count() == 0
    for name, hooks in receivers.items():
        assert in_order(taken(hooks)) == in_order([(one.id, event) for event, one in made]), name


HANGING = tuple(f"hangs-{number}" for number in range(6))


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, socket.socket]]:
    """Receivers that let anybody connect and never answer, for as long as a test may last."""
    monkeypatch.setattr(channel, "TIMEOUT_S", 10_000.0)
    with contextlib.ExitStack() as stack:
        yield {name: stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=50)) for name in HANGING}


def connections(listener: socket.socket) -> int:
    """Count those who have come, and send them away."""
    listener.setblocking(False)
    count = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            listener.accept()[0].close()
            count += 1
    return count


@pytest.fixture
def alerting(
    one_server: str, hooks: Hooks, hanging: dict[str, socket.socket], secret: str
) -> Iterator[tuple[threading.Thread, threading.Event]]:
    """Alerting with a receiver that is healthy among those that hang; what ends it."""
    urls = {name: f"http://127.0.0.1:{listener.getsockname()[1]}/" for name, listener in hanging.items()}
    urls = {**dict(list(urls.items())[:3]), "healthy": hooks.url, **urls}
    receivers = [
        {"type": "webhook", "name": name, "url": url, "secrets": [secret], "allow_networks": ["127.0.0.0/8"]}
        for name, url in urls.items()
    ]
    settings = AlertsSettings.model_validate({"receivers": receivers})
    made = Alerting(settings, redis_url=one_server, documents_topic="d", partitions=1, registry=CollectorRegistry())
    stop = threading.Event()
    thread = threading.Thread(target=made.run, args=(stop,))
    thread.start()
    yield thread, stop
    for listener in hanging.values():
        listener.close()  # resets all that wait for an answer
    stop.set()
    thread.join()
    for each in threading.enumerate():
        if each.name.startswith("sender-"):
            each.join()
    made._redis.close()


def test_who_hangs_holds_up_no_other_receiver_of_a_running_process(
    store: redis.Redis, hooks: Hooks, hanging: dict[str, socket.socket], alert: Alert, alerting: object
) -> None:
    made, outbox = changes(alert, 40), Outbox(store)
    for _, one in made:
        AlertStore(store).put(one)
    while len(hooks.requests) < len(made):  # pytest's timeout ends it where this never comes
        time.sleep(0.02)
    while len(select.select([*hanging.values()], [], [], 0)[0]) < len(HANGING):  # each has its own thread
        time.sleep(0.02)
    assert in_order(taken(hooks)) == in_order([(one.id, event) for event, one in made])
    assert {outbox.waiting(name)[0] for name in HANGING} == {len(made)}
    assert {name: connections(listener) for name, listener in hanging.items()} == dict.fromkeys(HANGING, 1)


def test_a_process_that_ends_waits_for_all_that_hang_no_longer_than_for_one(
    store: redis.Redis,
    hanging: dict[str, socket.socket],
    alert: Alert,
    alerting: tuple[threading.Thread, threading.Event],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    thread, stop = alerting
    waited, join = dict[str, float](), threading.Thread.join

    def noted(self: threading.Thread, timeout: float | None = None) -> None:
        if timeout is not None:
            waited[self.name] = timeout
        join(self, timeout)

    AlertStore(store).put(alert)
    while len(select.select([*hanging.values()], [], [], 0)[0]) < len(HANGING):  # they are being told
        time.sleep(0.02)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "join", noted)
        stop.set()
        thread.join()
    hung = {name.removeprefix("sender-") for name in waited} & {*HANGING}
    assert hung == {*HANGING}
    assert sum(waited[f"sender-{name}"] for name in hung) < 2 * _ENDS_S
    assert not store.exists(LEADER)  # others may lead
