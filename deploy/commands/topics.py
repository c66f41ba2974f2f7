"""`newsquake topics`: makes Kafka's topics, once, before the processes start."""

from __future__ import annotations

import click

from deploy import log, settings


@click.command()
def topics() -> None:
    """Make the topics that are missing; refuse when those that exist have another number of partitions.

    Nothing that exists is changed.
    """
    from deploy.topics import TopicsError, ensure_topics, wanted

    config = settings.load()
    if config.kafka.bootstrap_servers is None:
        raise settings.SettingsError("kafka.bootstrap_servers is not set; `newsquake up` makes its topics itself")
    log.setup(config.log.level)
    try:
        made = ensure_topics(config.kafka.bootstrap_servers, config.kafka)
    except TopicsError as exc:
        raise click.ClickException(str(exc)) from exc
    for name, partitions in wanted(config.kafka).items():
        click.echo(f"{name}: {'made' if name in made else 'exists'}, partitions: {partitions}")
