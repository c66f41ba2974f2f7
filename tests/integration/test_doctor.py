"""`newsquake doctor` as a user runs it."""

import json
import uuid

import pytest
from click.testing import CliRunner
from kafka import KafkaAdminClient
from kafka.admin import NewTopic

from deploy.cli import cli
from deploy.settings import KafkaSettings
from deploy.topics import ensure_topics

pytestmark = pytest.mark.integration


@pytest.fixture
def doctor(tmp_path, monkeypatch):
    """Runs it in this process, since torch takes seconds to import."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments, **env):
        variables = {f"NEWSQUAKE_{name}": value for name, value in env.items()}
        return CliRunner().invoke(cli, ["doctor", *arguments], env={"COLUMNS": "300", **variables})

    return run


def by_name(done):
    return {check["name"]: check for check in json.loads(done.stdout)["checks"]}


def test_servers_that_answer_are_described(doctor, kafka_bootstrap, redis_url):
    name = uuid.uuid4().hex
    topics = {"documents_topic": f"{name}.d", "scored_topic": f"{name}.s", "dead_topic": f"{name}.x", "partitions": 3}
    ensure_topics(kafka_bootstrap, KafkaSettings(**topics))
    env = {f"KAFKA__{key.upper()}": str(value) for key, value in topics.items()}
    done = doctor("--json", KAFKA__BOOTSTRAP_SERVERS=kafka_bootstrap, REDIS__URL=redis_url, **env)
    checks = by_name(done)
    assert checks["settings"]["state"] == checks["kafka"]["state"] == checks["redis"]["state"] == "ok"
    assert "Valkey" in checks["redis"]["found"]
    assert f"{name}.d (3)" in checks["topics"]["found"]
    assert checks["lag"]["found"].startswith("0 documents")
    assert checks["ingest"]["state"] == "wrong", "with servers named, the processes are expected to run"
    assert done.exit_code == 1


def test_what_is_wrong_is_said_with_what_mends_it(doctor, kafka_bootstrap):
    topic = uuid.uuid4().hex
    admin = KafkaAdminClient(bootstrap_servers=kafka_bootstrap)
    admin.create_topics([NewTopic(topic, 2, 1), NewTopic(f"{topic}.s", 2, 1), NewTopic(f"{topic}.x", 1, 1)])
    admin.close()
    done = doctor(
        KAFKA__BOOTSTRAP_SERVERS=kafka_bootstrap,
        KAFKA__DOCUMENTS_TOPIC=topic,
        KAFKA__SCORED_TOPIC=f"{topic}.s",
        KAFKA__DEAD_TOPIC=f"{topic}.x",
        REDIS__URL="redis://risk:hunter2@127.0.0.1:1/0",
    )
    assert done.exit_code == 1
    assert "has 2 partitions, kafka.partitions says 8" in done.stdout
    assert "set redis.url" in done.stdout
    assert "hunter2" not in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_wrong_settings_are_a_line_of_the_report(doctor):
    done = doctor("--json", KAFKA__PARTITIONS="none")
    assert done.exit_code == 1
    assert "kafka.partitions" in by_name(done)["settings"]["found"]


def test_what_nobody_started_is_off_and_not_wrong(doctor):
    checks = by_name(doctor("--json"))
    names = ("newsquake up", "ingest", "stream", "alerts", "desk", "listen")
    assert {checks[name]["state"] for name in names} == {"off"}
    assert "kafka" not in checks
    assert checks["settings"]["found"].startswith("no newsquake.toml here")
