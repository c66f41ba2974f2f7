"""`newsquake drift` on the topic `scored` of a real broker."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from kafka import KafkaProducer

from deploy.cli import cli
from deploy.scored_history import scored_rows
from deploy.settings import KafkaSettings
from deploy.topics import ensure_topics
from ingest.document import Document
from stream import scored

pytestmark = pytest.mark.integration

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.fixture
def kafka(kafka_bootstrap: str) -> KafkaSettings:
    """A topic with 200 calm items from before noon, 200 gloomy ones from after it, and one broken record."""
    name = uuid.uuid4().hex
    settings = KafkaSettings(
        bootstrap_servers=kafka_bootstrap,
        documents_topic=f"{name}.documents",
        scored_topic=f"{name}.scored",
        dead_topic=f"{name}.dead",
        partitions=2,
    )
    ensure_topics(kafka_bootstrap, settings)
    producer = KafkaProducer(bootstrap_servers=kafka_bootstrap)
    for number in range(400):
        gloomy = number >= 200
        at = NOON + timedelta(minutes=7 * (number - 200) + (1 if gloomy else 0))
        negative = 0.9 if number % 10 < (8 if gloomy else 2) else 0.1
        item = scored.Scored(
            document=Document(
                id=f"{number}", story=f"{number}", source="s", publisher="p", title=f"Acme {number % 200}",
                published_at=at, seen_at=at,
            ),
            partition=number % 2,
            offset=number,
            sentiment="negative" if negative > 0.5 else "positive",
            sentiment_probabilities={"negative": negative, "positive": round(1 - negative, 4)},
            topic="Macro",
            topic_probabilities={"Macro": 0.7, "Earnings": 0.3},
            model="m-1",
            scored_at=at,
        )  # fmt: skip
        for _ in range(1 + (number % 50 == 0)):  # repeats are allowed
            when = int(at.timestamp() * 1000)
            producer.send(settings.scored_topic, scored.encode(item), partition=number % 2, timestamp_ms=when)
    late = int((NOON + timedelta(hours=23, minutes=30)).timestamp() * 1000)
    producer.send(settings.scored_topic, b"not json", partition=0, timestamp_ms=late)
    producer.flush()
    producer.close()
    return settings


def test_a_stretch_of_time_is_read_from_all_partitions(kafka: KafkaSettings) -> None:
    bootstrap = kafka.bootstrap_servers or ""
    rows = list(scored_rows(bootstrap, kafka, NOON - timedelta(hours=30), NOON))
    assert {row.key for row in rows if row} == {str(number) for number in range(200)}
    rows = list(scored_rows(bootstrap, kafka, NOON, NOON + timedelta(days=9)))
    assert {row.key for row in rows if row} == {str(number) for number in range(200, 400)}
    assert rows.count(None) == 1
    assert list(scored_rows(bootstrap, kafka, NOON + timedelta(days=8), NOON + timedelta(days=9))) == []


def test_the_command_compares_two_stretches_of_the_topic(
    kafka: KafkaSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NEWSQUAKE_KAFKA__BOOTSTRAP_SERVERS", kafka.bootstrap_servers or "")
    monkeypatch.setenv("NEWSQUAKE_KAFKA__SCORED_TOPIC", kafka.scored_topic)
    monkeypatch.setenv("NEWSQUAKE_DRIFT__MINIMUM_ITEMS", "100")
    monkeypatch.setenv("NEWSQUAKE_DRIFT__EMBEDDED_ITEMS", "50")
    until = ("--until", "2026-11-21T12:00:00Z", "--json")
    done = CliRunner().invoke(cli, ["drift", *until, "--keep", "gloomy.jsonl"])
    report = json.loads(done.stdout)
    assert done.exit_code == 1
    assert {measure["name"] for measure in report["measures"] if measure["drifted"]} == {"sentiment_mix"}
    assert (report["reference"]["items"], report["current"]["items"], report["current"]["unreadable"]) == (200, 200, 1)
    assert report["reference"]["seen"] == 204
    done = CliRunner().invoke(cli, ["drift", *until, "--reference", "gloomy.jsonl"])
    assert (done.exit_code, json.loads(done.stdout)["drifted"]) == (0, False)


def test_a_topic_that_is_not_there_is_said(kafka_bootstrap: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEWSQUAKE_KAFKA__BOOTSTRAP_SERVERS", kafka_bootstrap)
    monkeypatch.setenv("NEWSQUAKE_KAFKA__SCORED_TOPIC", uuid.uuid4().hex)
    done = CliRunner().invoke(cli, ["drift"])
    assert (done.exit_code, "Kafka has no topic" in done.stderr) == (2, True)
