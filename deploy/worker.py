"""A stream worker put together from its parts; `newsquake stream`, the tests and the bench run this one."""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from alerts.windows import Windows
from deploy.health import Starting
from deploy.kafka_client import client_options, faust_credentials
from deploy.settings import Settings
from deploy.topics import ensure_topics
from deploy.waiting import until_reachable
from stream import watchdog
from stream.app import StreamWorker, faust_app
from stream.batch import MessagePath, Scoring
from stream.metrics import StreamMetrics
from stream.progress import Progress
from stream.publish import KafkaPublisher
from stream.rebuild import Rebuilder
from stream.record import Topics
from stream.scored import check_labels


async def run_worker(
    config: Settings,
    bootstrap_servers: str,
    redis_url: str,
    load_scorer: Callable[[], Scoring],
    registry: CollectorRegistry,
    state: Starting,
    stop: asyncio.Event,
) -> None:
    """Wait for Kafka and Redis, load the model, and work until `stop` is set.

    Raises:
        SettingsError: a certificate cannot be used.
        TopicsMismatchError: the topics do not have the partitions that the settings say.
        ModelError: the model cannot be loaded, or the windows cannot count what it says; a `DeviceError` may pass.
        Exception: whatever else made going on impossible; nothing unfinished was acked.
    """
    metrics = StreamMetrics(registry)
    options = client_options(config.kafka)
    topics = Topics(config.kafka.documents_topic, config.kafka.scored_topic, config.kafka.dead_topic)
    redis: Redis = Redis.from_url(redis_url, socket_timeout=30, socket_connect_timeout=5)
    try:
        if not await until_reachable(bootstrap_servers, options, config.stream.group, redis, stop):
            return
        await asyncio.to_thread(ensure_topics, bootstrap_servers, config.kafka)
        scorer = await asyncio.to_thread(load_scorer)
        check_labels(scorer.sentiment_labels, scorer.topic_labels)
        windows = Windows(redis, config.alerts.windows)
        rebuilder = Rebuilder(windows, topics, metrics, bootstrap_servers, options)
        publisher = KafkaPublisher(bootstrap_servers, options)
        await publisher.start()
        path = MessagePath(scorer, windows, publisher, topics, config.stream, metrics, rebuilder.restore)
        progress = Progress(
            topics.documents,
            windows,
            config.stream,
            metrics,
            path.restore,
            rebuilder.moved_at,
            bootstrap_servers,
            options,
        )
        state.started(progress.health)
        ended = threading.Event()
        watchdog.start(progress.stalled, ended)
        with tempfile.TemporaryDirectory(prefix="newsquake-faust-") as data_dir:
            app, documents = faust_app(
                config.stream, bootstrap_servers, topics.documents, Path(data_dir), faust_credentials(options)
            )
            try:
                await StreamWorker(app, documents, path, progress, config.stream).run(stop)
            finally:
                ended.set()
                await publisher.stop()
    finally:
        await redis.aclose()
