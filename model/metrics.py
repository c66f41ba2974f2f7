"""Metrics of this room: those of `newsquake drift`, which a node exporter's textfile collector reads from a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Gauge

if TYPE_CHECKING:
    from model.drift import Drift


class DriftMetrics:
    """What `newsquake drift --metrics-file` writes."""

    def __init__(self, registry: CollectorRegistry) -> None:
        measure = ["measure"]
        self.drift = Gauge(
            "newsquake_model_drift",
            "Size of each measure of drift at the last look; docs/model.md lists them.",
            measure,
            registry=registry,
        )
        self.threshold = Gauge(
            "newsquake_model_drift_threshold",
            "Size from which a measure may count as drifted (settings `drift.*`).",
            measure,
            registry=registry,
        )
        self.drifted = Gauge(
            "newsquake_model_drifted",
            "1 where a measure is over its threshold and chance alone would seldom make it so, else 0.",
            measure,
            registry=registry,
        )
        self.expected = Gauge(
            "newsquake_model_expected_ratio",
            "Score to expect without labels: `score` is sentiment_accuracy, sentiment_macro_f1, topic_accuracy or "
            "topic_macro_f1; `bound` is estimate, low or high (95 %); `stretch` is reference or current.",
            ["score", "stretch", "bound"],
            registry=registry,
        )
        self.items = Gauge(
            "newsquake_model_drift_items",
            "Items looked at of each stretch: `stretch` is reference or current.",
            ["stretch"],
            registry=registry,
        )
        self.looked = Gauge(
            "newsquake_model_drift_look_timestamp_seconds", "When drift was last looked for.", registry=registry
        )

    def fill(self, drift: Drift, now_s: float) -> None:
        """Take over a report, made at Unix time `now_s`."""
        for measure in drift.measures:
            self.drift.labels(measure.name).set(measure.value)
            self.threshold.labels(measure.name).set(measure.threshold)
            self.drifted.labels(measure.name).set(measure.drifted)
        for stretch, side in (("reference", drift.reference), ("current", drift.current)):
            self.items.labels(stretch).set(side.items)
            for score, values in side.expected.items():
                for bound, value in zip(("estimate", "low", "high"), values, strict=True):
                    self.expected.labels(score, stretch, bound).set(value)
        self.looked.set(now_s)
