"""The dashboard "newsquake: the pipeline": is it running, how fast, what is lost, for whoever runs it."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from deploy.grafana.panels import RED, YELLOW, Query, board, choice, lines, number, rows_of, states

_WORKER = 'instance=~"$instance"'
_UP = 'up{job=~"newsquake-.+"}'
_SCORED = 'outcome="scored"'
_FATES = f'{_WORKER}, outcome!="unlisted"'


def _rate(metric: str, labels: str = "") -> str:
    return f"rate({metric}{f'{{{labels}}}' if labels else ''}[$__rate_interval])"


def _quantile(q: float, metric: str, by: str = "", labels: str = "") -> str:
    return f"histogram_quantile({q}, sum by (le{by}) ({_rate(metric + '_bucket', labels)}))"


def pipeline() -> dashboard.Dashboard:
    """Return the dashboard; all panels but those of the stream look at every process."""
    base = board(
        "newsquake-pipeline",
        "newsquake: the pipeline",
        "Sources, scoring, windows, alerts and deliveries: what runs, how fast, what is held up and what is lost.",
        span="3h",
    ).with_variable(choice("instance", "Stream worker", 'label_values(up{job="newsquake-stream"}, instance)'))
    return rows_of(
        base,
        {
            "At a glance": _glance(),
            "Ingest": _ingest(),
            "Stream": _stream(),
            "Alerts and deliveries": _alerts(),
            "Processes": _processes(),
        },
    )


def _glance() -> list[object]:
    return [
        number(
            "Processes not ready",
            "none",
            Query(f"count(newsquake_process_ready == 0 or {_UP} == 0) or 0 * count({_UP})", ""),
            about="Processes that do not answer or say on /healthz that they are not ready.",
            bad=[(1, RED)],
        ),
        number(
            "Documents in",
            "cps",
            Query(f"sum({_rate('newsquake_ingest_documents_total')})", ""),
            about="Documents that Kafka acknowledged to ingest, a second.",
        ),
        number(
            "Items scored",
            "cps",
            Query(f"sum({_rate('newsquake_stream_records_total', _SCORED)})", ""),
            about="Items scored by all workers, a second.",
        ),
        number(
            "Records waiting",
            "short",
            Query("sum(newsquake_stream_lag_records)", ""),
            about="Lag of all partitions. It grows when more comes in than is scored, or when nothing is.",
            bad=[(1_000, YELLOW), (10_000, RED)],
        ),
        number(
            "Latency p99",
            "s",
            Query("newsquake:stream_latency_seconds:p99_5m", ""),
            about="From publication to Kafka until in the windows and in `scored`.",
            bad=[(10, YELLOW), (60, RED)],
        ),
        number(
            "Dead letters",
            "short",
            Query('sum(increase(newsquake_stream_records_total{outcome="dead"}[$__range]))', ""),
            about="Records that could not be read or scored, over the time shown. Their reasons are in documents.dead.",
            bad=[(0.5, YELLOW)],
            decimals=0,
        ),
        number(
            "Alerting is behind",
            "s",
            Query("max(newsquake_alerts_behind_seconds)", ""),
            about="From the end of the last minute judged to now. About a minute is normal.",
            bad=[(180, YELLOW), (300, RED)],
        ),
        number(
            "Deliveries waiting",
            "short",
            Query("sum(newsquake_alerts_outbox_depth)", ""),
            about="Webhooks that no receiver has taken yet.",
            bad=[(1, YELLOW), (10, RED)],
        ),
    ]


def _ingest() -> list[object]:
    return [
        lines(
            "Documents by source",
            "cps",
            Query(f"topk(12, sum by (source) ({_rate('newsquake_ingest_documents_total')}))", "{{source}}"),
            about="The twelve busiest sources.",
            stacked=True,
            width=12,
        ),
        lines(
            "Sources by state",
            "short",
            Query("sum by (state) (newsquake_ingest_sources)", "{{state}}"),
            about="running, failing (tried again), waiting for Kafka or Redis, finished (a replay), gone for good.",
            stacked=True,
            width=6,
            colors={"running": "green", "failing": "red", "gone": "dark-red", "waiting": "orange", "finished": "blue"},
        ),
        lines(
            "Age of items when first seen",
            "s",
            Query(_quantile(0.5, "newsquake_ingest_delay_seconds"), "p50"),
            Query(_quantile(0.95, "newsquake_ingest_delay_seconds"), "p95"),
            about="From the time that the source claims for an item until ingest had it.",
            width=6,
        ),
        lines(
            "Fetches and connections by outcome",
            "cps",
            Query(f"sum by (outcome) ({_rate('newsquake_ingest_polls_total')})", "fetch: {{outcome}}"),
            Query(f"sum by (reason) ({_rate('newsquake_ingest_reconnects_total')})", "connection ended: {{reason}}"),
            about="Fetches of feeds, and connections of streaming sources that ended.",
        ),
        lines(
            "Left out",
            "cps",
            Query(f"sum by (reason) ({_rate('newsquake_ingest_dropped_total')})", "{{reason}}"),
            Query(f"sum({_rate('newsquake_ingest_repeats_total')})", "repeat"),
            about="Items that did not become a document, by reason; repeats are normal: feeds list items many times.",
        ),
        lines(
            "Publishing to Kafka",
            "s",
            Query(_quantile(0.5, "newsquake_ingest_publish_seconds"), "p50"),
            Query(_quantile(0.99, "newsquake_ingest_publish_seconds"), "p99"),
            about="Seconds until all of a batch was acknowledged.",
        ),
    ]


def _stream() -> list[object]:
    stage = "newsquake_stream_stage_seconds"
    return [
        lines(
            "Records by outcome",
            "cps",
            Query(f"sum by (outcome) ({_rate('newsquake_stream_records_total', _WORKER)})", "{{outcome}}"),
            about="Records finished a second: scored, or dead (could not be read).",
            stacked=True,
            colors={"scored": "green", "dead": "red"},
        ),
        lines(
            "Lag by partition",
            "short",
            Query(f"sum by (partition) (newsquake_stream_lag_records{{{_WORKER}}})", "partition {{partition}}"),
            about="Records that wait. One partition that stays high while others are empty has a worker in trouble.",
            stacked=True,
        ),
        lines(
            "Latency",
            "s",
            Query(_quantile(0.5, "newsquake_stream_latency_seconds", labels=_WORKER), "p50"),
            Query(_quantile(0.95, "newsquake_stream_latency_seconds", labels=_WORKER), "p95"),
            Query(_quantile(0.99, "newsquake_stream_latency_seconds", labels=_WORKER), "p99"),
            about="From publication to Kafka until in the windows and in `scored`.",
            limit=60,
        ),
        lines(
            "Where the time goes",
            "percentunit",
            Query(f"sum by (stage) ({_rate(stage + '_sum', _WORKER)})", "{{stage}}"),
            about="Share of each second in a stage, all workers. `score` at 100 % a worker: the model is the limit.",
            stacked=True,
        ),
        lines(
            "Seconds a batch by stage (p95)",
            "s",
            Query(_quantile(0.95, stage, ", stage", _WORKER), "{{stage}}"),
            about="decode, score (the model), windows (Redis), publish (Kafka).",
        ),
        lines(
            "Batch size",
            "short",
            Query(_quantile(0.5, "newsquake_stream_batch_records", labels=_WORKER), "p50"),
            Query(_quantile(0.95, "newsquake_stream_batch_records", labels=_WORKER), "p95"),
            about="Records taken together. Small batches: the worker keeps up. stream.max_batch is the most.",
        ),
        lines(
            "What the windows did",
            "cps",
            Query(
                f"sum by (outcome) ({_rate('newsquake_stream_windows_total', _FATES)})",
                "{{outcome}}",
            ),
            about="counted; copies of a story; repeats of an item; old when first seen; late: too late to count.",
            stacked=True,
        ),
        lines(
            "Partitions a worker",
            "short",
            Query(f"sum by (instance) (newsquake_stream_partitions{{{_WORKER}}})", "{{instance}}"),
            about="Their sum is the number of partitions; less means that nobody reads some of them.",
            stacked=True,
        ),
        lines(
            "Retries, rebuilt, missing",
            "cps",
            Query(f"sum by (stage) ({_rate('newsquake_stream_retries_total', _WORKER)})", "retry: {{stage}}"),
            Query(f"sum({_rate('newsquake_stream_rebuilt_total', _WORKER)})", "rebuilt"),
            Query(f"sum({_rate('newsquake_stream_missing_total', _WORKER)})", "missing"),
            about="Tries repeated while Redis or Kafka was away; items put back into the windows; items lost to them.",
            colors={"missing": "red"},
        ),
    ]


def _alerts() -> list[object]:
    return [
        lines(
            "How far alerting is behind",
            "s",
            Query("max(newsquake_alerts_behind_seconds)", "behind"),
            about="From the end of the last minute judged to now.",
            limit=300,
            width=6,
        ),
        lines(
            "Minutes judged, a minute",
            "short",
            Query(f"sum({_rate('newsquake_alerts_minutes_judged_total')}) * 60", "minutes"),
            about="One a minute, unless history is read or a replay runs.",
            width=6,
        ),
        lines(
            "Seconds to judge a minute",
            "s",
            Query(_quantile(0.5, "newsquake_alerts_tick_seconds"), "p50"),
            Query(_quantile(0.99, "newsquake_alerts_tick_seconds"), "p99"),
            about="Reading one minute of all partitions and judging all series.",
            width=6,
        ),
        lines(
            "Series watched",
            "short",
            Query("sum(newsquake_alerts_series)", "series"),
            about="Series that the detector keeps a baseline of; alerts.surge.max_series is the most.",
            width=6,
        ),
        lines(
            "Attempts to deliver",
            "short",
            Query("sum by (outcome) (increase(newsquake_alerts_deliveries_total[$__rate_interval]))", "{{outcome}}"),
            about="delivered; failed (tried again); dead (given up: nobody was told).",
            stacked=True,
            colors={"delivered": "green", "failed": "orange", "dead": "red"},
        ),
        lines(
            "Outbox",
            "short",
            Query("sum(newsquake_alerts_outbox_depth)", "waiting"),
            Query("sum(newsquake_alerts_dead_deliveries)", "in the dead list"),
            about="Deliveries that wait for a receiver, and those given up.",
            colors={"in the dead list": "red"},
        ),
        lines(
            "Longest overdue delivery, failed calls to Redis",
            "short",
            Query("clamp_min(max(newsquake_alerts_oldest_due_seconds), 0)", "overdue, s"),
            Query(f"sum({_rate('newsquake_alerts_redis_errors_total')}) * 60", "Redis errors a minute"),
            about="Overdue: the sender itself does not get on. A receiver that refuses shows as failed attempts.",
        ),
    ]


def _processes() -> list[object]:
    return [
        states(
            "Ready",
            Query("newsquake_process_ready", "{{job}} {{instance}}"),
            about="What each process says of itself; its /healthz gives the reasons.",
            width=12,
        ),
        states(
            "Up",
            Query(_UP, "{{job}} {{instance}}"),
            about="Whether Prometheus reached it.",
            width=12,
        ),
        lines(
            "Memory",
            "bytes",
            Query('process_resident_memory_bytes{job=~"newsquake-.+"}', "{{job}} {{instance}}"),
            about="Resident memory. A worker's is flat after the first minutes; lag does not add to it.",
        ),
        lines(
            "CPU",
            "short",
            Query('rate(process_cpu_seconds_total{job=~"newsquake-.+"}[$__rate_interval])', "{{job}} {{instance}}"),
            about="Cores in use.",
        ),
        lines(
            "Uptime",
            "s",
            Query('time() - process_start_time_seconds{job=~"newsquake-.+"}', "{{job}} {{instance}}"),
            about="A saw-tooth is a process that keeps being restarted.",
        ),
    ]
