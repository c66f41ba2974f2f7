"""`newsquake stream`: one worker of the consumer group."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import tempfile
import threading
from pathlib import Path

import click
from prometheus_client import CollectorRegistry

from deploy import health, log, settings

logger = logging.getLogger(__name__)


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), help="Port of /metrics and /healthz, for http.stream_port.")
def stream(port: int | None) -> None:
    """Score items from Kafka and write windows and `scored`.

    Start as many as there are partitions; they share the work and take over from one another.
    """
    config = settings.load()
    bootstrap_servers, redis_url = settings.require(config)
    log.setup(config.log.level)
    try:
        asyncio.run(_run(config, bootstrap_servers, redis_url, config.http.stream_port if port is None else port))
    except Exception:
        logger.exception("the worker cannot go on; nothing that was not finished is acked, so a restart loses nothing")
        sys.exit(1)


async def _run(config: settings.Settings, bootstrap_servers: str, redis_url: str, port: int) -> None:
    from redis.asyncio import Redis

    from alerts.windows import Windows
    from deploy.waiting import until_reachable
    from model.scorer import Scorer
    from stream import watchdog
    from stream.app import StreamWorker, faust_app
    from stream.batch import MessagePath, Topics
    from stream.metrics import StreamMetrics
    from stream.progress import Progress
    from stream.publish import KafkaPublisher
    from stream.rebuild import Rebuilder

    registry = CollectorRegistry()
    metrics = StreamMetrics(registry)
    stop = asyncio.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(signum, stop.set)
    state = health.Starting("loading the model, waiting for Kafka and Redis")
    server = health.serve(config.http.host, port, registry, state)
    redis: Redis = Redis.from_url(redis_url)
    try:
        if not await until_reachable(bootstrap_servers, config.stream.group, redis, stop):
            return
        scorer = await asyncio.to_thread(Scorer.load, config.model)
        kafka = config.kafka
        topics = Topics(kafka.documents_topic, kafka.scored_topic, kafka.dead_topic)
        windows = Windows(redis, config.alerts.windows)
        rebuilder = Rebuilder(windows, topics, metrics, bootstrap_servers)
        publisher = KafkaPublisher(bootstrap_servers)
        await publisher.start()
        path = MessagePath(scorer, windows, publisher, topics, config.stream, metrics, rebuilder.restore)
        progress = Progress(topics.documents, windows, config.stream, metrics, rebuilder.restore, bootstrap_servers)
        state.started(progress.health)
        ended = threading.Event()
        watchdog.start(progress.stalled, ended)
        with tempfile.TemporaryDirectory(prefix="newsquake-faust-") as data_dir:
            app, documents = faust_app(config.stream, bootstrap_servers, topics.documents, Path(data_dir))
            try:
                await StreamWorker(app, documents, path, progress, config.stream).run(stop)
            finally:
                ended.set()
                await publisher.stop()
    finally:
        server.shutdown()
        await redis.aclose()
