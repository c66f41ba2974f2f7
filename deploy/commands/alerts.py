"""`newsquake alerts`: watches the windows."""

from __future__ import annotations

import click
from prometheus_client import CollectorRegistry

from deploy import log, settings
from deploy.commands import _service


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), help="Port of /metrics and /healthz, for http.alerts_port.")
def alerts(port: int | None) -> None:
    """Watch the windows, raise alerts and deliver them."""
    from alerts.engine import AlertEngine

    config = settings.load()
    _, redis_url = settings.require(config)
    log.setup(config.log.level)
    registry = CollectorRegistry()
    engine = AlertEngine(
        config.alerts,
        redis_url=redis_url,
        documents_topic=config.kafka.documents_topic,
        partitions=config.kafka.partitions,
        registry=registry,
    )
    _service.run(engine, registry, config.http, config.http.alerts_port if port is None else port)
