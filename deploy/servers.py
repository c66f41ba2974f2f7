"""Which Kafka and Redis a command speaks to: those of the settings, else of the `newsquake up` that runs with them."""

from __future__ import annotations

from deploy.local.state import holder
from deploy.settings import Settings, SettingsError


def kafka_of(settings: Settings) -> str:
    """Kafka's bootstrap servers.

    Raises:
        SettingsError: the settings name none, and no `newsquake up` runs here.
    """
    return settings.kafka.bootstrap_servers or _local("kafka.bootstrap_servers", settings.local.kafka_port, settings)


def redis_of(settings: Settings) -> str:
    """Redis's URL.

    Raises:
        SettingsError: the settings name none, and no `newsquake up` runs here.
    """
    if settings.redis.url is not None:
        return settings.redis.url.get_secret_value()
    return f"redis://{_local('redis.url', settings.local.redis_port, settings)}/0"


def _local(setting: str, port: int, settings: Settings) -> str:
    state_dir = settings.local.state_dir
    if not (holder(state_dir) or holder(state_dir / "demo")):
        raise SettingsError(f"{setting} is not set, and no `newsquake up` runs in {state_dir.absolute()}")
    return f"127.0.0.1:{port}"
