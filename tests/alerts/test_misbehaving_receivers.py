"""Receivers that misbehave all at once: the healthy one has its own meanwhile, the others theirs once mended."""

from __future__ import annotations

import contextlib
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import trustme

from alerts.alert import Alert
from alerts.channels import channel
from alerts.replay import replay
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
