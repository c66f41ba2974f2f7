"""`newsquake alerts`: watches the windows."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import click
from prometheus_client import CollectorRegistry

from deploy import log, settings
from deploy.commands import _service

if TYPE_CHECKING:
    from alerts.feedback_rebuild import FeedbackRebuild

logger = logging.getLogger(__name__)


@click.group(invoke_without_command=True)
@click.option("--port", type=click.IntRange(0, 65535), help="Port of /metrics and /healthz, for http.alerts_port.")
@click.pass_context
def alerts(ctx: click.Context, port: int | None) -> None:
    """Watch the windows, raise alerts and deliver them. Of several processes one leads, the others stand by."""
    if ctx.invoked_subcommand is not None:
        return
    from alerts.publish import KafkaPlace
    from alerts.rules_file import RulesError
    from alerts.service import Alerting
    from alerts.sessions import ExchangeError
    from deploy.explainer import explainer_of
    from deploy.kafka_client import client_options

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
            kafka=KafkaPlace(bootstrap, client_options(config.kafka), config.kafka.alerts_topic),
            feedback=_feedback(bootstrap, config),
        )
    except RulesError as exc:
        raise settings.SettingsError(f"these rules are wrong (see docs/rules.md):\n{exc}") from exc
    except ExchangeError as exc:
        raise settings.SettingsError(f"alerts.surge.exchange: {exc}") from exc
    port = config.http.alerts_port if port is None else port
    _service.run(alerting, registry, config.http, port, notes=alerting.notes)


@alerts.command()
def rebuild() -> None:
    """Put back alerts, silences and what analysts said, which Redis has lost, from Kafka. Nobody is told of them again.

    Alerting does so by itself when Redis has lost everything. What Redis has is left as it is, unless Kafka knows more.
    """
    from redis import Redis

    from alerts.publish import KafkaPlace
    from alerts.rebuild import RebuildError
    from alerts.rebuild import rebuild as put_back
    from deploy.kafka_client import client_options

    config = settings.load()
    bootstrap, redis_url = settings.require(config)
    log.setup(config.log.level)
    with Redis.from_url(redis_url, socket_timeout=30, socket_connect_timeout=5) as redis:
        try:
            done = put_back(redis, KafkaPlace(bootstrap, client_options(config.kafka), config.kafka.alerts_topic))
            click.echo(
                f"put back: {done.alerts} alerts, {done.silences} silences; unreadable records: {done.unreadable}"
            )
            said = _feedback(bootstrap, config).run(redis)
        except RebuildError as exc:
            raise click.ClickException(str(exc)) from exc
    click.echo(
        f"put back: {said.words} words of analysts, what they did about {said.acts} alerts; "
        f"unreadable records: {said.unreadable}"
    )


def _feedback(bootstrap: str, config: settings.Settings) -> FeedbackRebuild:
    from alerts.feedback_rebuild import FeedbackRebuild
    from alerts.publish import KafkaPlace
    from deploy.kafka_client import client_options

    place = KafkaPlace(bootstrap, client_options(config.kafka), config.kafka.feedback_topic)
    return FeedbackRebuild(place, config.desk.ranking)


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
