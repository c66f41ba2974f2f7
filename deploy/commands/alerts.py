"""`newsquake alerts`: watches the windows."""

from __future__ import annotations

import logging

import click
from prometheus_client import CollectorRegistry

from deploy import log, settings
from deploy.commands import _service

logger = logging.getLogger(__name__)


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), help="Port of /metrics and /healthz, for http.alerts_port.")
def alerts(port: int | None) -> None:
    """Watch the windows, raise alerts and deliver them."""
    from alerts.rules_file import RulesError
    from alerts.service import Alerting
    from alerts.sessions import ExchangeError
    from deploy.explainer import explainer_of

    config = settings.load()
    bootstrap, redis_url = settings.require(config)
    log.setup(config.log.level)
    _check_partitions(bootstrap, config.kafka)
    registry = CollectorRegistry()
    try:
        alerting = Alerting(
            config.alerts,
            redis_url=redis_url,
            documents_topic=config.kafka.documents_topic,
            partitions=config.kafka.partitions,
            registry=registry,
            explainer=explainer_of(config.model) if config.alerts.explain else None,
            desk_url=config.desk.url or "",
        )
    except RulesError as exc:
        raise settings.SettingsError(f"these rules are wrong (see docs/rules.md):\n{exc}") from exc
    except ExchangeError as exc:
        raise settings.SettingsError(f"alerts.surge.exchange: {exc}") from exc
    _service.run(alerting, registry, config.http, config.http.alerts_port if port is None else port)


def _check_partitions(bootstrap: str, kafka: settings.KafkaSettings) -> None:
    """Windows are kept by partition: those that alerting does not know of would be read by nobody.

    Raises:
        SettingsError: the topics have another number of partitions than `kafka.partitions`.
    """
    from deploy.topics import TopicsError, TopicsMismatchError, check_topics

    try:
        check_topics(bootstrap, kafka)
    except TopicsMismatchError as exc:
        raise settings.SettingsError(str(exc)) from exc
    except TopicsError as exc:
        logger.warning("%s; going on, since alerting needs Redis alone: kafka.partitions was not checked", exc)
