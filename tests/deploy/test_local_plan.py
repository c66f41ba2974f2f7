"""What `newsquake up` would run, for given settings."""

import json

import pytest
from pydantic import SecretStr

from deploy.local.plan import make_plan, wanted_ports
from deploy.settings import HttpSettings, KafkaSettings, LocalSettings, RedisSettings, Settings

SECRET = "whsec_" + "a" * 44


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def make(**sections):
        return Settings().model_copy(update=sections)

    return make


def env_of(plan, name):
    (service,) = [service for service in plan.services if service.name == name]
    return service.child.program.env


def test_all_of_it_by_default(settings):
    plan = make_plan(settings(), webhook_secret=SECRET, demo=False)
    assert plan.names == ["kafka", "valkey", "ingest", "stream", "alerts", "desk", "listen"]
    assert plan.stop_order == ["ingest", "stream", "alerts", "desk", "listen", "valkey", "kafka"]
    (webhook,) = json.loads(env_of(plan, "alerts")["NEWSQUAKE_ALERTS__RECEIVERS"])
    assert (webhook["type"], webhook["url"], webhook["secrets"]) == ("webhook", "http://127.0.0.1:9480/", [SECRET])
    assert not any(SECRET in part for service in plan.services for part in service.child.program.argv)
    assert "NEWSQUAKE_LISTEN_SECRET" not in env_of(plan, "stream")


def test_a_configured_webhook_needs_no_receiver(settings):
    plan = make_plan(settings(), webhook_secret=None, demo=False)
    assert "listen" not in plan.names
    assert "NEWSQUAKE_ALERTS__RECEIVERS" not in env_of(plan, "alerts")


@pytest.fixture
def elsewhere(settings):
    return settings(
        kafka=KafkaSettings(bootstrap_servers="kafka.example:9092"),
        redis=RedisSettings(url=SecretStr("rediss://risk:hunter2@redis.example/0")),
    )


def test_named_servers_are_used_and_their_password_is_not_shown(elsewhere):
    plan = make_plan(elsewhere, webhook_secret=SECRET, demo=False)
    assert plan.server_names == []
    assert env_of(plan, "ingest")["NEWSQUAKE_KAFKA__BOOTSTRAP_SERVERS"] == "kafka.example:9092"
    assert env_of(plan, "alerts")["NEWSQUAKE_REDIS__URL"] == "rediss://risk:hunter2@redis.example/0"
    assert not any("hunter2" in part for service in plan.services for part in service.child.program.argv)
    assert "local.redis_port" not in wanted_ports(elsewhere, plan)


def test_the_demo_never_touches_named_servers(elsewhere):
    plan = make_plan(elsewhere, webhook_secret=SECRET, demo=True)
    assert plan.server_names == ["kafka", "valkey"]
    for service in plan.services:
        assert service.child.program.env["NEWSQUAKE_KAFKA__BOOTSTRAP_SERVERS"] == "127.0.0.1:19092"
        assert service.child.program.env["NEWSQUAKE_REDIS__URL"] == "redis://127.0.0.1:16379/0"


def test_each_worker_has_its_port(settings):
    several = settings(local=LocalSettings(stream_workers=3))
    plan = make_plan(several, webhook_secret=None, demo=False)
    ports = [env_of(plan, f"stream-{number}")["NEWSQUAKE_HTTP__STREAM_PORT"] for number in (1, 2, 3)]
    assert ports == ["9410", "9411", "9412"]
    assert wanted_ports(several, plan)["http.stream_port (worker 3)"] == 9412


def test_any_port_is_chosen_here(settings):
    anywhere = settings(http=HttpSettings(host="0.0.0.0", ingest_port=0, alerts_port=0, stream_port=0, listen_port=0))
    plan = make_plan(anywhere, webhook_secret=SECRET, demo=False)
    ports = [service.port for service in plan.services]
    assert all(ports)
    assert len(set(ports)) == len(ports)
    (webhook,) = json.loads(env_of(plan, "alerts")["NEWSQUAKE_ALERTS__RECEIVERS"])
    assert webhook["url"] == f"http://127.0.0.1:{env_of(plan, 'listen')['NEWSQUAKE_HTTP__LISTEN_PORT']}/"
