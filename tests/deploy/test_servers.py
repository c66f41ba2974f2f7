from __future__ import annotations

from pathlib import Path

import pytest

from deploy.local.state import StateLock
from deploy.servers import kafka_of, redis_of
from deploy.settings import KafkaSettings, LocalSettings, RedisSettings, Settings, SettingsError


def test_commands_find_the_servers_of_the_newsquake_up_that_runs_here(tmp_path: Path) -> None:
    local = LocalSettings(state_dir=tmp_path, kafka_port=29_092, redis_port=26_379)
    settings = Settings.model_construct(kafka=KafkaSettings(), redis=RedisSettings(), local=local)
    with pytest.raises(SettingsError, match="newsquake up"):
        kafka_of(settings)
    with pytest.raises(SettingsError, match="newsquake up"):
        redis_of(settings)
    with StateLock(tmp_path):
        assert kafka_of(settings) == "127.0.0.1:29092"
        assert redis_of(settings) == "redis://127.0.0.1:26379/0"
        named = settings.model_copy(update={"kafka": KafkaSettings(bootstrap_servers="broker:9092")})
        assert kafka_of(named) == "broker:9092"
    with StateLock(tmp_path / "demo"):
        assert kafka_of(settings) == "127.0.0.1:29092"
