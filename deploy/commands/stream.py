"""`newsquake stream`: one worker of the consumer group."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys

import click
from prometheus_client import CollectorRegistry

from deploy import health, log, settings
from deploy.topics import TopicsMismatchError
from model.errors import DeviceError, ModelError

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
    except settings.SettingsError:
        raise
    except Exception as exc:
        if isinstance(exc, TopicsMismatchError | ModelError) and not isinstance(exc, DeviceError):
            raise settings.SettingsError(str(exc)) from exc  # and would be so after a restart
        # Whatever else it was: logged whole, and the supervisor starts another worker.
        logger.exception("the worker cannot go on; nothing that was not finished is acked, so a restart loses nothing")
        sys.exit(1)


async def _run(config: settings.Settings, bootstrap_servers: str, redis_url: str, port: int) -> None:
    from deploy.worker import run_worker
    from model.scorer import Scorer

    stop = asyncio.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(signum, stop.set)
    registry = CollectorRegistry()
    state = health.Starting("waiting for Kafka and Redis, loading the model")
    server = health.serve(config.http.host, port, registry, state)
    try:
        await run_worker(config, bootstrap_servers, redis_url, lambda: Scorer.load(config.model), registry, state, stop)
    finally:
        server.shutdown()
        server.server_close()
