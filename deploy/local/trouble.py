"""Trouble that a process lives with and only its metrics tell: sources that fail, messages that came to nothing."""

from __future__ import annotations

from typing import NamedTuple

import httpx
from prometheus_client.parser import text_string_to_metric_families

from deploy.local.checks import Line
from deploy.local.plan import loopback_of
from deploy.settings import Settings

_TIMEOUT_S = 2.0


class _Trouble(NamedTuple):
    """A metric that should be `good`; otherwise the line says `said`, with its value as {n}, and `mend`."""

    process: str
    metric: str
    state: str
    said: str
    mend: str
    good: float = 0.0


_TROUBLES = (
    _Trouble(
        "ingest",
        "newsquake_ingest_sources",
        "failing",
        "{n:.0f} sources fail and are tried again",
        "`newsquake doctor --feeds` asks each; the log of ingest says why",
    ),
    _Trouble(
        "ingest",
        "newsquake_ingest_sources",
        "gone",
        "{n:.0f} sources are gone for good",
        "the log of ingest says why; take them out of the settings",
    ),
    _Trouble(
        "alerts",
        "newsquake_alerts_dead_deliveries",
        "",
        "{n:.0f} messages were given up",
        "`newsquake deliveries list` says why, `newsquake deliveries replay` sends them again",
    ),
    _Trouble(
        "alerts",
        "newsquake_alerts_rules_valid",
        "",
        "the file of rules is wrong or gone: those before it hold",
        "`newsquake rules check` says what is wrong",
        good=1.0,
    ),
)


def check_trouble(settings: Settings) -> list[Line]:
    """A warning for each trouble that the metrics of ingest and alerts show; nothing of a process that is away."""
    host, lines = loopback_of(settings.http.host), []
    for process, port in (("ingest", settings.http.ingest_port), ("alerts", settings.http.alerts_port)):
        try:
            page = httpx.get(f"http://{host}:{port}/metrics", timeout=_TIMEOUT_S, trust_env=False)
        except httpx.HTTPError:
            continue  # `check_processes` says so
        lines += troubles(process, page.text)
    return lines


def troubles(process: str, metrics: str) -> list[Line]:
    """The same of one process, from the text of its `/metrics`."""
    values = {
        (sample.name, sample.labels.get("state", "")): sample.value
        for family in text_string_to_metric_families(metrics)
        for sample in family.samples
    }
    lines = []
    for trouble in _TROUBLES:
        value = values.get((trouble.metric, trouble.state), trouble.good)
        if trouble.process == process and value != trouble.good:
            lines.append(Line(process, "warning", trouble.said.format(n=value), trouble.mend))
    return lines
