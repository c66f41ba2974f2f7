"""From a click on the desk to a label that training reads: desk, Redis, Kafka, `newsquake label export`."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from click.testing import CliRunner
from kafka import KafkaConsumer
from prometheus_client import CollectorRegistry
from redis import Redis

from alerts.alert import Alert, alert_id
from alerts.desk.app import create_app
from alerts.desk.feedback_topic import Kafka
from alerts.desk.settings import DeskSettings
from alerts.desk.state import Desk
from alerts.desk.stream import Stream
from alerts.feedback import OUTBOX, Feedback, decode_said, said
from alerts.store import AlertStore
from deploy.cli import cli
from deploy.settings import KafkaSettings
from deploy.topics import ensure_topics
from model.corrections import known_labels
from model.label_file import read_labels
from model.settings import SHIPPED_WEIGHTS
from tests.made import made_alert, made_story

pytestmark = pytest.mark.integration

TITLES = ("Bank halts withdrawals", "Insurer posts record profit", "Index unchanged at noon")


def _alert() -> Alert:
    at = datetime.now(UTC).replace(second=0, microsecond=0)
    stories = tuple(made_story(title, at, topic="Other") for title in TITLES)
    id_ = alert_id("company=SIVB", int(at.timestamp() // 60))
    return made_alert("SIVB", at, id=id_, stories=stories, rule="banks")


def _wait(what: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not what():
        assert time.monotonic() < end, "it took over a minute"
        time.sleep(0.1)


class Clicks:
    """An analyst at a desk that is served in this process."""

    def __init__(self, redis: Redis, bootstrap: str, topic: str) -> None:
        known = known_labels(SHIPPED_WEIGHTS / "small")
        self.alert = _alert()
        self.topics = tuple(known.topic)
        AlertStore(redis).put(self.alert)
        self.registry = CollectorRegistry()
        self.desk = Desk(
            DeskSettings(), redis, self.registry, stream=Stream(None, "scored"), processes={},
            sentiments=tuple(known.sentiment), topics=self.topics, kafka=Kafka(bootstrap, topic),
        )  # fmt: skip
        self.desk.tokens.revoke("al")
        token = self.desk.tokens.add("al", "analyst")
        sock = socket.create_server(("127.0.0.1", 0))
        self._client = httpx.Client(
            base_url=f"http://127.0.0.1:{sock.getsockname()[1]}",
            headers={"authorization": f"Bearer {token}"},
            trust_env=False,
        )
        config = uvicorn.Config(create_app(self.desk), log_config=None, timeout_graceful_shutdown=2)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [sock]}, daemon=True)

    def __enter__(self) -> Clicks:
        self._thread.start()
        _wait(lambda: self._server.started)
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()
        self._server.should_exit = True
        self._thread.join(20)

    def post(self, what: str, body: dict[str, Any]) -> None:
        answer = self._client.post(f"/api/v1/alerts/{self.alert.id}/{what}", json=body)
        assert answer.status_code == 200, answer.text

    def metric(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)


def _on_topic(bootstrap: str, topic: str) -> list[Any]:
    consumer = KafkaConsumer(
        topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest", consumer_timeout_ms=3_000
    )
    try:
        return [(record.key.decode(), decode_said(record.value)) for record in consumer]
    finally:
        consumer.close()


def test_a_click_becomes_a_label_that_training_reads(
    kafka_bootstrap: str, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = f"feedback-{time.time_ns()}"
    ensure_topics(kafka_bootstrap, KafkaSettings(feedback_topic=topic))
    with Redis.from_url(redis_url) as redis, Clicks(redis, kafka_bootstrap, topic) as desk:
        redis.delete(OUTBOX)
        redis.xadd(OUTBOX, {"rubbish": "which must not hold up the rest"})
        right = next(name for name in desk.topics if name != "Other")
        desk.post("verdict", {"verdict": "useful"})
        desk.post("correction", {"story": 0, "about": "topic", "label": right})
        desk.post("correction", {"story": 1, "about": "sentiment", "label": "neutral"})
        desk.post("correction", {"story": 1, "about": "sentiment", "label": "positive"})
        desk.post("correction", {"story": 2, "about": "sentiment"})
        _wait(lambda: not redis.xlen(OUTBOX))
        assert desk.metric("newsquake_desk_feedback_sent_total") == 5
        assert desk.metric("newsquake_alerts_feedback_total", verdict="wrong_sentiment") == 3

        words = [word for _, word in _on_topic(kafka_bootstrap, topic)]
        assert [(word.about, word.value) for word in words] == [
            ("alert", "useful"), ("topic", right), ("sentiment", "neutral"), ("sentiment", "positive"),
            ("sentiment", ""),
        ]  # fmt: skip
        assert {(word.by, word.alert, word.rule) for word in words} == {("al", desk.alert.id, "banks")}

        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("NEWSQUAKE_KAFKA__BOOTSTRAP_SERVERS", kafka_bootstrap)
        monkeypatch.setenv("NEWSQUAKE_KAFKA__FEEDBACK_TOPIC", topic)
        monkeypatch.setenv("NEWSQUAKE_REDIS__URL", redis_url)
        out = tmp_path / "labels.jsonl"

        def export() -> Any:
            done = CliRunner().invoke(cli, ["label", "export", str(out), "--weight", "3", "--json"])
            assert done.exit_code == 0, done.output
            return done

        done = export()
        assert json.loads(done.stdout)["new"] == 2
        assert "1 say that a label is wrong and not which is right" in done.stderr
        read = read_labels(out)
        found = {text: (s, t) for text, s, t in zip(read.texts, read.sentiment, read.topic, strict=True)}
        assert set(found) == {TITLES[0], TITLES[1]}
        assert read.sentiment_labels[found[TITLES[1]][0]] == "positive"
        assert read.topic_labels[found[TITLES[0]][1]] == right
        assert set(read.weight) == {3.0}

        # a file's corrections stay, what is taken back on the desk goes, what was exported is known
        mine = {"text": "Regulator opens probe", "sentiment": "negative", "by": "al", "at": "2026-01-05T10:00:00Z"}
        taken = CliRunner().invoke(cli, ["label", "-", "--labels", str(out)], input=json.dumps(mine))
        assert taken.exit_code == 0, taken.output
        desk.post("correction", {"story": 0, "about": "topic", "taken_back": True})
        _wait(lambda: not redis.xlen(OUTBOX))
        done = export()
        assert json.loads(done.stdout)["new"] == 0
        assert set(read_labels(out).texts) == {TITLES[1], "Regulator opens probe"}


_BRINGS = """
import logging, sys
from prometheus_client import CollectorRegistry
from redis import Redis
from alerts.desk.feedback_topic import FeedbackTopic, Kafka
from alerts.desk.metrics import DeskMetrics
logging.basicConfig(level="WARNING")
brings = FeedbackTopic(Redis.from_url(sys.argv[1]), Kafka(sys.argv[2]), DeskMetrics(CollectorRegistry()))
brings.start()
sys.stdin.read()
brings.stop()
"""


def test_an_outage_of_kafka_loses_nothing(make_kafka: Callable[[], Any], redis_url: str, tmp_path: Path) -> None:
    kafka, log = make_kafka(), tmp_path / "log"
    kafka.start()
    ensure_topics(kafka.bootstrap, KafkaSettings())
    words = [said("al", "alert", value, alert="a") for value in ("useful", "false_alarm", "useful", "false_alarm")]
    command = [sys.executable, "-c", _BRINGS, redis_url, kafka.bootstrap]
    with Redis.from_url(redis_url) as redis, log.open("wb") as output:
        redis.delete(OUTBOX)
        feedback = Feedback(redis)
        with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=output) as process:
            try:
                feedback.post(words[0])
                _wait(lambda: not redis.xlen(OUTBOX))
                kafka.kill()
                for word in words[1:]:
                    feedback.post(word)
                _wait(lambda: b"cannot be brought to Kafka" in log.read_bytes())
                assert redis.xlen(OUTBOX) == 3
                kafka.start()
                _wait(lambda: not redis.xlen(OUTBOX))
            finally:
                process.communicate(timeout=60)
    found = _on_topic(kafka.bootstrap, "feedback")
    assert list(dict.fromkeys(word for _, word in found)) == words, "none is lost, and they are in order"
    assert {key for key, _ in found} == {words[0].thing}
