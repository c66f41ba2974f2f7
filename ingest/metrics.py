"""All metrics of ingest. Label `source` is a source's name: one a feed, so as many as feeds are configured."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class IngestMetrics:
    """Counters, gauges and histograms, registered in the registry given."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.documents = Counter(
            "newsquake_ingest_documents_total", "Documents acknowledged by Kafka.", ["source"], registry=registry
        )
        self.dropped = Counter(
            "newsquake_ingest_dropped_total",
            "Items left out, by reason: empty, no_id, bad_time, bad_row, bad_message, too_many (entries of one feed), "
            "refused (by the broker), unsent (a stop came while Kafka was away; fetched again after the restart).",
            ["source", "reason"],
            registry=registry,
        )
        self.repeats = Counter(
            "newsquake_ingest_repeats_total",
            "Items that the source brought again and that were left out.",
            ["source"],
            registry=registry,
        )
        self.polls = Counter(
            "newsquake_ingest_polls_total",
            "Fetches of a feed by outcome: ok, broken (not well-formed, read as far as possible), not_modified, gone, "
            "busy (429 or 503), refused (other status), timeout, too_large, error (connection, redirect, not a feed).",
            ["source", "outcome"],
            registry=registry,
        )
        self.reconnects = Counter(
            "newsquake_ingest_reconnects_total",
            "Connections of a streaming source that ended, by reason: closed, idle, too_large, error.",
            ["source", "reason"],
            registry=registry,
        )
        self.restarts = Counter(
            "newsquake_ingest_source_restarts_total",
            "Sources started again after they failed in an unforeseen way.",
            ["source"],
            registry=registry,
        )
        self.retries = Counter(
            "newsquake_ingest_retries_total",
            "Tries that failed and were repeated, by server: kafka, redis.",
            ["server"],
            registry=registry,
        )
        self.publish_seconds = Histogram(
            "newsquake_ingest_publish_seconds",
            "Seconds from handing a batch to Kafka until all of it was acknowledged.",
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
            registry=registry,
        )
        self.delay_seconds = Histogram(
            "newsquake_ingest_delay_seconds",
            "Seconds from an item's publication, as the source claims it, until ingest had it.",
            ["source"],
            buckets=(1, 5, 15, 60, 300, 900, 3_600, 21_600, 86_400),
            registry=registry,
        )
        self.last_success = Gauge(
            "newsquake_ingest_last_success_timestamp_seconds",
            "Unix time at which a source last answered as it should, with news or without.",
            ["source"],
            registry=registry,
        )
        self.sources = Gauge(
            "newsquake_ingest_sources",
            "Sources by state: running, failing, waiting (for Kafka or Redis), finished, gone.",
            ["state"],
            registry=registry,
        )
        for server in ("kafka", "redis"):  # rules and dashboards see 0, not nothing
            self.retries.labels(server)
