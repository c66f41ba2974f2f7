"""`newsquake ingest`: reads the sources."""

from __future__ import annotations

import click
from prometheus_client import CollectorRegistry

from deploy import log, settings
from deploy.commands import _service
from deploy.kafka_client import client_options


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), help="Port of /metrics and /healthz, for http.ingest_port.")
@click.option("--until-done", is_flag=True, help="End when all sources have, as a replayed file does, not on a signal.")
def ingest(port: int | None, until_done: bool) -> None:
    """Read the sources and publish their items to Kafka."""
    from ingest.worker import IngestError, IngestSettingsError, IngestWorker

    config = settings.load()
    bootstrap_servers, redis_url = settings.require(config)
    log.setup(config.log.level)
    registry = CollectorRegistry()
    try:
        worker = IngestWorker(
            config.ingest,
            bootstrap_servers=bootstrap_servers,
            documents_topic=config.kafka.documents_topic,
            redis_url=redis_url,
            registry=registry,
            kafka_options=client_options(config.kafka),
        )
    except ValueError as exc:
        raise settings.SettingsError(f"ingest: {exc}") from exc
    try:
        http_port = config.http.ingest_port if port is None else port
        _service.run(worker, registry, config.http, http_port, until_done=until_done)
    except IngestSettingsError as exc:
        raise settings.SettingsError(f"ingest: {exc}") from exc
    except IngestError as exc:
        raise click.ClickException(str(exc)) from exc
