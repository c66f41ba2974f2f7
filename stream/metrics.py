"""All metrics of the stream worker."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_STAGES_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_LATENCY_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)


class StreamMetrics:
    """What one worker counts. Topics and sentiments are the model's labels, so all labels are bounded."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.records = Counter(
            "newsquake_stream_records_total",
            "Records taken from `documents`, by outcome: scored, dead. Repeats after a rebalance are counted again.",
            ["outcome"],
            registry=registry,
        )
        self.sentiment = Counter(
            "newsquake_stream_sentiment_total",
            "Items scored, by topic and sentiment. Repeats after a rebalance are counted again.",
            ["topic", "sentiment"],
            registry=registry,
        )
        self.windows = Counter(
            "newsquake_stream_windows_total",
            "What the windows did with items: counted, copies, repeats, old, late (see docs/architecture.md); besides, "
            "unlisted: counted, but the list of evidence of their minute was full.",
            ["outcome"],
            registry=registry,
        )
        self.batch_size = Histogram(
            "newsquake_stream_batch_records", "Records in a batch.", buckets=_SIZES, registry=registry
        )
        self.stage = Histogram(
            "newsquake_stream_stage_seconds",
            "Seconds a batch spends in a stage: decode, score, windows, publish.",
            ["stage"],
            buckets=_STAGES_S,
            registry=registry,
        )
        self.latency = Histogram(
            "newsquake_stream_latency_seconds",
            "Seconds from publication to Kafka until windows and `scored` have it, by a batch's oldest item.",
            buckets=_LATENCY_S,
            registry=registry,
        )
        self.lag = Gauge(
            "newsquake_stream_lag_records",
            "Records waiting in a partition of `documents` that this worker reads.",
            ["partition"],
            registry=registry,
        )
        self.model = Gauge(
            "newsquake_stream_model_info",
            "1, with the model's version and device.",
            ["model", "device"],
            registry=registry,
        )
        self.partitions = Gauge(
            "newsquake_stream_partitions", "Partitions of `documents` that this worker reads.", registry=registry
        )
        self.retries = Counter(
            "newsquake_stream_retries_total",
            "Failed tries of a stage that were tried again: windows, publish, offsets.",
            ["stage"],
            registry=registry,
        )
        self.rebuilt = Counter(
            "newsquake_stream_rebuilt_total",
            "Items put back into the windows from `scored` after Redis had lost them.",
            registry=registry,
        )
        self.missing = Counter(
            "newsquake_stream_missing_total",
            "Offsets that neither the windows nor `scored` hold any more (older than Kafka keeps).",
            registry=registry,
        )
        self.ready = Gauge(
            "newsquake_stream_ready", "1 when the model is loaded and the worker has caught up.", registry=registry
        )
        for metric, values in (  # rules and dashboards see 0, not nothing, and the first of each is an increase
            (self.records, ("scored", "dead")),
            (self.windows, ("counted", "copies", "repeats", "old", "late", "unlisted")),
            (self.retries, ("windows", "publish", "offsets")),
        ):
            for value in values:
                metric.labels(value)
