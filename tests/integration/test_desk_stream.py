"""The page Stream: what is scored, from a real broker to the page, the API and the events."""

from __future__ import annotations

import gc
import json
import logging
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime

import httpx
import pytest
import uvicorn
from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import NewTopic
from prometheus_client import CollectorRegistry
from redis import Redis

from alerts.desk import stream as stream_module
from alerts.desk.app import create_app
from alerts.desk.settings import DeskSettings
from alerts.desk.state import Desk
from alerts.desk.stream import Stream
from deploy.local.servers import LocalKafka
from ingest.document import Document
from stream.scored import Scored, encode

pytestmark = pytest.mark.integration

HOSTILE = "<script>alert(1)</script> Bank's \u202e'\"> shares"


def _record(number: int, title: str = "") -> bytes:
    at = datetime.now(UTC)
    document = Document(
        id=f"{number:032x}", story=f"{number:032x}", title=title or f"Headline {number}",
        url="https://example.org/1", publisher="Daily", source="rss", companies=("JPM",), published_at=at, seen_at=at,
    )  # fmt: skip
    scored = Scored(
        document=document, partition=0, offset=number, sentiment="negative", topic="Earnings", model="m-1",
        sentiment_probabilities={"negative": 0.9, "neutral": 0.1}, topic_probabilities={"Earnings": 0.7},
        scored_at=at,
    )  # fmt: skip
    return encode(scored)


def _send(bootstrap: str, topic: str, *records: bytes | None, partition: int = 0) -> None:
    with closing(KafkaProducer(bootstrap_servers=bootstrap, acks="all", metadata_max_age_ms=500)) as producer:
        for each in [producer.send(topic, key=b"k", value=record, partition=partition) for record in records]:
            each.get(timeout=30)


def _topic(bootstrap: str) -> str:
    name = f"{uuid.uuid4().hex}.scored"
    with closing(KafkaAdminClient(bootstrap_servers=bootstrap)) as admin:
        admin.create_topics([NewTopic(name, 1, 1)])
    return name


def _wait(what: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not what():
        assert time.monotonic() < end, "it took over a minute"
        time.sleep(0.1)


@contextmanager
def _reading(bootstrap: str, topic: str) -> Iterator[Stream]:
    stream = Stream(bootstrap, topic, {"metadata_max_age_ms": 500})
    stream.start()
    try:
        yield stream
    finally:
        stream.stop()
        assert not any(each.name == "stream" for each in threading.enumerate())


@contextmanager
def _served(redis: Redis, stream: Stream) -> Iterator[httpx.Client]:
    desk = Desk(DeskSettings(), redis, CollectorRegistry(), stream=stream, processes={})
    desk.tokens.revoke("streamer")
    token = desk.tokens.add("streamer", "reader")
    sock = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(create_app(desk), log_config=None, timeout_graceful_shutdown=2))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True)
    thread.start()
    _wait(lambda: server.started)
    headers = {"authorization": f"Bearer {token}"}
    with httpx.Client(base_url=f"http://127.0.0.1:{sock.getsockname()[1]}", headers=headers, trust_env=False) as client:
        yield client
    server.should_exit = True
    thread.join(20)


def test_what_is_scored_is_on_the_page_in_the_api_and_in_the_events(kafka_bootstrap: str, redis_url: str) -> None:
    topic = _topic(kafka_bootstrap)
    _send(kafka_bootstrap, topic, *(_record(n) for n in range(80)), None, b"rubbish", _record(79))
    stream = Stream(kafka_bootstrap, topic)
    with Redis.from_url(redis_url) as redis, _served(redis, stream) as client:
        _wait(lambda: stream.number > 0 and stream.since(0)[-1].title == "Headline 79")
        found = client.get("/api/v1/stream").json()
        titles = [item["title"] for item in found["items"]]
        # The newest first, each once, and not the whole topic.
        assert titles == [f"Headline {n}" for n in range(79, 79 - len(titles), -1)]
        assert 40 <= len(titles) <= 50
        assert (found["problem"], stream.model) == ("", "m-1")
        with client.stream("GET", "/api/v1/events?items=true", timeout=60) as answer:
            lines = answer.iter_lines()
            assert next(lines).startswith("retry")
            _send(kafka_bootstrap, topic, _record(100, HOSTILE))
            news = (json.loads(line.removeprefix("data: ")) for line in lines if line.startswith('data: {"items"'))
            item = next(item for each in news for item in each["items"] if item["title"] == HOSTILE)
        assert (item["title"], item["sentiment"], item["companies"]) == (HOSTILE, "negative", ["JPM"])
        page = client.get("/stream").text
        assert "Headline 79" in page
        assert "&lt;script&gt;alert(1)" in page
        assert "<script>alert" not in page


def test_partitions_that_a_topic_gets_later_are_read_too(kafka_bootstrap: str) -> None:
    topic = _topic(kafka_bootstrap)
    with _reading(kafka_bootstrap, topic) as stream:
        _send(kafka_bootstrap, topic, _record(1))
        _wait(lambda: stream.number == 1)
        with closing(KafkaAdminClient(bootstrap_servers=kafka_bootstrap)) as admin:
            admin.create_partitions({topic: 3})
        _send(kafka_bootstrap, topic, _record(2), partition=2)
        _wait(lambda: stream.number == 2)
        assert [item.title for item in stream.since(0)] == ["Headline 1", "Headline 2"]


@pytest.fixture
def dropped_sockets(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """kafka-python leaves the sockets of refused connections to the garbage collection, which comes within the test."""
    caplog.set_level(logging.CRITICAL, "kafka")  # records of errors would hold them
    caplog.set_level(logging.CRITICAL, "alerts")
    yield
    gc.collect()


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
@pytest.mark.usefixtures("dropped_sockets")
def test_a_topic_and_a_broker_that_come_late_or_again_are_read(
    make_kafka: Callable[[], LocalKafka], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_module, "_SILENT_S", 1.0)
    monkeypatch.setattr(stream_module, "_TIMEOUT_MS", 1_000)
    monkeypatch.setattr(stream_module, "_RETRY_S", 1.0)
    kafka = make_kafka()
    kafka.start()
    name = f"{uuid.uuid4().hex}.scored"
    with _reading(kafka.bootstrap, name) as stream:
        _wait(lambda: "no topic" in stream.problem)
        with closing(KafkaAdminClient(bootstrap_servers=kafka.bootstrap)) as admin:
            admin.create_topics([NewTopic(name, 1, 1)])
        _wait(lambda: not stream.problem)
        _send(kafka.bootstrap, name, _record(1))
        _wait(lambda: stream.number == 1)
        kafka.kill()
        _wait(lambda: "cannot be read" in stream.problem)
        kafka.start()
        _send(kafka.bootstrap, name, _record(2))
        _wait(lambda: stream.number == 2)
