"""Which Kafka and Redis a command speaks to."""

from __future__ import annotations

from typing import NamedTuple

from deploy.local.state import holder
from deploy.settings import Settings, SettingsError


class Servers(NamedTuple):
    """Kafka's bootstrap servers and Redis's URL."""

    bootstrap: str
    redis_url: str


def servers(settings: Settings) -> Servers:
    """The servers that the settings name, else those of the `newsquake up` that runs with the same settings.

    Raises:
        SettingsError: one is not named, and no `newsquake up` runs here.
    """
    bootstrap, url = settings.kafka.bootstrap_servers, settings.redis.url
    if bootstrap is None or url is None:
        state_dir = settings.local.state_dir
        if not (holder(state_dir) or holder(state_dir / "demo")):
            lacking = "kafka.bootstrap_servers" if bootstrap is None else "redis.url"
            raise SettingsError(f"{lacking} is not set, and no `newsquake up` runs in {state_dir.absolute()}")
    return Servers(
        bootstrap or f"127.0.0.1:{settings.local.kafka_port}",
        url.get_secret_value() if url else f"redis://127.0.0.1:{settings.local.redis_port}/0",
    )
