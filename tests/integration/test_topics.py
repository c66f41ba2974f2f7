"""`ensure_topics`, and what refuses other partitions, on a real broker."""

import os
import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
from click.testing import CliRunner
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType, NewTopic

from alerts.store import LOG, STATE
from deploy.cli import cli
from deploy.settings import KafkaSettings
from deploy.topics import TopicsError, ensure_topics

pytestmark = pytest.mark.integration


@pytest.fixture
def settings():
    name = uuid.uuid4().hex
    return KafkaSettings(
        documents_topic=f"{name}.documents",
        scored_topic=f"{name}.scored",
        dead_topic=f"{name}.dead",
        alerts_topic=f"{name}.alerts",
        feedback_topic=f"{name}.feedback",
        partitions=3,
    )


def all_of(settings):
    shared = {settings.documents_topic, settings.scored_topic, settings.dead_topic}
    return shared | {settings.alerts_topic, settings.feedback_topic}


def policy(bootstrap, topic):
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    (described,) = admin.describe_configs(
        [ConfigResource(ConfigResourceType.TOPIC, topic)], config_filter="all"
    ).values()
    admin.close()
    return described[topic]["cleanup.policy"]["value"]


def partitions(bootstrap, topic):
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    (described,) = admin.describe_topics([topic])
    admin.close()
    return len(described["partitions"])


def test_makes_what_is_missing_and_only_once(kafka_bootstrap, settings):
    names = all_of(settings)
    assert set(ensure_topics(kafka_bootstrap, settings)) == names
    assert partitions(kafka_bootstrap, settings.documents_topic) == 3
    assert partitions(kafka_bootstrap, settings.scored_topic) == 3
    assert partitions(kafka_bootstrap, settings.dead_topic) == 1
    assert policy(kafka_bootstrap, settings.documents_topic) == "delete"
    assert policy(kafka_bootstrap, settings.feedback_topic) == "compact"
    assert policy(kafka_bootstrap, settings.alerts_topic) == "compact"
    assert ensure_topics(kafka_bootstrap, settings) == []


def test_several_processes_may_make_them_at_once(kafka_bootstrap, settings):
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: ensure_topics(kafka_bootstrap, settings), range(4)))
    assert sorted(name for names in made for name in names) == sorted(all_of(settings))


@pytest.mark.parametrize("which", ["documents_topic", "scored_topic"])
def test_refuses_another_number_of_partitions_and_changes_nothing(kafka_bootstrap, settings, which):
    topic = getattr(settings, which)
    admin = KafkaAdminClient(bootstrap_servers=kafka_bootstrap)
    admin.create_topics([NewTopic(topic, 5, 1)])
    with pytest.raises(TopicsError, match=rf"{topic} has 5 partitions, kafka.partitions says 3"):
        ensure_topics(kafka_bootstrap, settings)
    assert not all_of(settings) - {topic} & set(admin.list_topics())
    admin.close()


def test_an_unreachable_broker_is_a_clear_error(settings):
    with pytest.raises(TopicsError, match=r"127\.0\.0\.1:1"):
        ensure_topics("127.0.0.1:1", settings)


def test_the_command_makes_them_once_and_says_so(kafka_bootstrap, settings, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    env = {f"NEWSQUAKE_KAFKA__{name.upper()}": str(value) for name, value in settings if value is not None}
    env = {name: value for name, value in env.items() if name.endswith(("_TOPIC", "_PARTITIONS"))}
    env["NEWSQUAKE_KAFKA__BOOTSTRAP_SERVERS"] = kafka_bootstrap
    first, again, other = (
        CliRunner().invoke(cli, ["topics"], env={**env, "NEWSQUAKE_KAFKA__PARTITIONS": partitions})
        for partitions in ("3", "3", "4")
    )
    assert (first.exit_code, again.exit_code, other.exit_code) == (0, 0, 1)
    assert f"{settings.documents_topic}: made, partitions: 3" in first.output
    assert f"{settings.documents_topic}: exists, partitions: 3" in again.output
    assert "kafka.partitions says 4" in other.output


@pytest.fixture
def alerts(redis_url, tmp_path):
    """Starts `newsquake alerts` with these variables; kills it at the end of the test, should it still run."""
    started = []

    def start(**env):
        variables = {f"NEWSQUAKE_{name}": str(value) for name, value in env.items()}
        command = [sys.executable, "-c", "from deploy.cli import main; main()", "alerts", "--port", "0"]
        process = subprocess.Popen(
            command,
            cwd=tmp_path,
            env={**os.environ, "NEWSQUAKE_REDIS__URL": redis_url, **variables},
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stderr.close()


def test_alerting_refuses_partitions_that_the_topic_does_not_have(alerts, kafka_bootstrap, settings):
    ensure_topics(kafka_bootstrap, settings)
    names = {f"KAFKA__{name.upper()}": getattr(settings, name) for name in ("documents_topic", "scored_topic")}
    process = alerts(KAFKA__BOOTSTRAP_SERVERS=kafka_bootstrap, KAFKA__PARTITIONS=2, **names)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "has 3 partitions, kafka.partitions says 2" in said.splitlines()[-1]


def test_alerting_goes_on_without_kafka(alerts, redis_url):
    with redis.Redis.from_url(redis_url) as client:
        client.set(STATE, b"of before")  # so that nothing was lost
    process = alerts(KAFKA__BOOTSTRAP_SERVERS="127.0.0.1:1")
    said = ""
    for line in process.stderr:
        said += line
        if "alerting starts" in line or "alerting goes on" in line:
            process.terminate()
    assert process.wait() == 0, said
    assert "kafka.partitions was not checked" in said


def test_alerting_that_lost_everything_waits_for_kafka_and_says_so(alerts, redis_url):
    with redis.Redis.from_url(redis_url) as client:
        client.delete(STATE, LOG)
    process = alerts(KAFKA__BOOTSTRAP_SERVERS="127.0.0.1:1")
    said = ""
    for line in process.stderr:
        said += line
        if "alerts cannot be put back" in line:
            process.terminate()
    assert process.wait() == 0, said
    assert "alerting starts" not in said
