"""Metrics that every process of newsquake has: how it is, which version it is, what it uses of the machine."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Gauge, Info, ProcessCollector


class ProcessMetrics:
    """What `/healthz` says, as numbers, so that rules and dashboards see it too; asked at each scrape."""

    def __init__(self, registry: CollectorRegistry, health: Callable[[], tuple[list[str], list[str]]]) -> None:
        self.live = Gauge(
            "newsquake_process_live", "1 while the process is live; 0: a restart is needed.", registry=registry
        )
        self.ready = Gauge(
            "newsquake_process_ready",
            "1 while the process does its work; 0: /healthz says what it waits for.",
            registry=registry,
        )
        self.build = Info("newsquake_build", "The version that runs.", registry=registry)
        self.live.set_function(lambda: float(not health()[0]))
        self.ready.set_function(lambda: float(not any(health())))
        self.build.info({"version": version("newsquake")})
        ProcessCollector(registry=registry)
