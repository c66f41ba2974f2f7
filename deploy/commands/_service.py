"""What `newsquake ingest` and `newsquake alerts` share: a blocking component, its health page, and signals."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import Protocol

from prometheus_client import CollectorRegistry

from deploy import health
from deploy.settings import HttpSettings


class Component(Protocol):
    """A long-running part of a room."""

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set."""

    def health(self) -> tuple[list[str], list[str]]:
        """Return why it is not live and why it is not ready."""


def run(
    component: Component,
    registry: CollectorRegistry,
    http: HttpSettings,
    port: int,
    *,
    until_done: bool = False,
    notes: Callable[[], list[str]] = list,
) -> None:
    """Run until SIGINT or SIGTERM, serving `/metrics` and `/healthz`; `until_done`: or until there is nothing to do.

    Raises:
        OSError: the port is taken.
    """
    stop = threading.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, lambda *_: stop.set())
    server = health.serve(http.host, port, registry, component.health, notes)
    try:
        component.run(stop)
        if not until_done:
            stop.wait()
    finally:
        server.shutdown()
