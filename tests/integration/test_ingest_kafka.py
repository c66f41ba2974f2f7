"""Ingest on a real broker and a real Valkey server, both of which are killed under it."""

import gc
import json
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import redis
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.admin import NewTopic
from kafka.producer.sender import Sender
from prometheus_client import CollectorRegistry

from ingest.document import Document, decode
from ingest.item import compose
from ingest.publish import Publisher, PublishError
from ingest.settings import IngestSettings
from ingest.worker import IngestWorker

pytestmark = [
    pytest.mark.integration,
    # kafka-python leaves the sockets of refused connections to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]

T0 = datetime(2023, 3, 10, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _collect_sockets(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    caplog.set_level(logging.CRITICAL, "kafka")  # its log records hold errors, and those the sockets
    yield
    gc.collect()


def create(bootstrap: str, topic: str) -> None:
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    admin.create_topics([NewTopic(topic, 4, 1)])
    admin.close()


def read_all(bootstrap: str, topic: str) -> list[tuple[int, bytes, Document]]:
    """Return partition, key and document of each record of the topic."""
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest", enable_auto_commit=False)
    partitions = [TopicPartition(topic, n) for n in range(4)]
    consumer.assign(partitions)
    consumer.seek_to_beginning()
    ends = consumer.end_offsets(partitions)
    records = []
    while any(consumer.position(partition) < ends[partition] for partition in partitions):
        for batch in consumer.poll(timeout_ms=500).values():
            records += [(record.partition, record.key, decode(record.value)) for record in batch]
    consumer.close()
    return records


def write_rows(path: Path, count: int) -> Path:
    with path.open("w") as out:
        for n in range(count):
            at = T0 + timedelta(seconds=n)
            out.write(
                json.dumps({"published_at": at.isoformat(), "title": f"Bank {n % 500} fails today", "id": n}) + "\n"
            )
    return path


def replay_settings(path: Path, name: str) -> IngestSettings:
    return IngestSettings.model_validate(
        {
            "rss": {"enabled": False},
            "replay": {"file": path, "name": name},
            "max_backoff_s": 1.0,
            "publish_timeout_s": 5.0,
        }
    )


@pytest.fixture
def start() -> Iterator[Callable[..., threading.Thread]]:
    """Runs a worker in a thread; stops those that are left at the end."""
    started: list[tuple[threading.Thread, threading.Event]] = []

    def run(worker: IngestWorker, stop: threading.Event) -> threading.Thread:
        thread = threading.Thread(target=worker.run, args=(stop,))
        thread.start()
        started.append((thread, stop))
        return thread

    yield run
    for thread, stop in started:
        stop.set()
        thread.join(60)


def test_replay_to_kafka_and_a_second_run_adds_nothing(kafka_bootstrap: str, redis_url: str, tmp_path: Path) -> None:
    topic = "ingest-replay"
    create(kafka_bootstrap, topic)
    path = write_rows(tmp_path / "rows.jsonl", 5_000)
    for _ in range(2):
        IngestWorker(
            replay_settings(path, "it-replay"),
            bootstrap_servers=kafka_bootstrap,
            documents_topic=topic,
            redis_url=redis_url,
            registry=CollectorRegistry(),
        ).run(threading.Event())
    records = read_all(kafka_bootstrap, topic)
    assert len(records) == len({document.id for _, _, document in records}) == 5_000
    assert all(key.decode() == document.story for _, key, document in records)
    assert len({(partition, key) for partition, key, _ in records}) == 500  # a story's copies share a partition


def test_broker_and_redis_killed_under_load_lose_nothing(
    make_kafka: Callable[[], Any],
    make_valkey: Callable[..., Any],
    tmp_path: Path,
    start: Callable[..., threading.Thread],
) -> None:
    kafka, valkey = make_kafka(), make_valkey(appendfsync="always")
    kafka.start()
    valkey.start()
    create(kafka.bootstrap, "documents")
    path = write_rows(tmp_path / "rows.jsonl", 20_000)
    registry = CollectorRegistry()
    worker = IngestWorker(
        replay_settings(path, "it-kill"),
        bootstrap_servers=kafka.bootstrap,
        documents_topic="documents",
        redis_url=valkey.url,
        registry=registry,
    )
    stop = threading.Event()
    thread = start(worker, stop)

    def published() -> float:
        return registry.get_sample_value("newsquake_ingest_documents_total", {"source": "it-kill"}) or 0.0

    for kills, server in enumerate((kafka, valkey, kafka), start=1):
        while thread.is_alive() and published() < kills * 3_000:
            stop.wait(0.01)
        server.kill()
        stop.wait(6.0 if kills == 3 else 0.5)  # the last time for longer than a batch may take
        server.start()
    thread.join(120)
    assert not thread.is_alive()
    ids = Counter(document.id for _, _, document in read_all(kafka.bootstrap, "documents"))
    assert len(ids) == 20_000
    # Only a batch that was in flight when a server died may have come again.
    assert sum(ids.values()) <= 20_000 + 3 * 2_000
    with redis.Redis.from_url(valkey.url) as client:
        assert json.loads(client.get("nq:ingest:position:it-kill") or b"{}")["rows"] == 20_000  # type: ignore[arg-type]  # redis types its answers as awaitable too


def test_feeds_to_kafka(kafka_bootstrap: str, redis_url: str, start: Callable[..., threading.Thread]) -> None:
    polls = Counter[str]()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            polls[self.path] += 1
            if polls[self.path] % 3 == 0:
                self.send_error(500)
                return
            items = "".join(
                f"<item><guid>{n}</guid><title>{self.path[1:]} item number {n}</title></item>"
                for n in range(polls[self.path] * 2)
            )
            body = f'<rss version="2.0"><channel><title>t</title>{items}</channel></rss>'.encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    create(kafka_bootstrap, "ingest-feeds")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    serving = threading.Thread(target=server.serve_forever, args=(0.05,))
    serving.start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    feeds = [{"name": f"it-{name}", "url": f"{url}/{name}", "publisher": name} for name in "abc"]
    settings = IngestSettings.model_validate(
        {"rss": {"feeds": feeds, "poll_s": 0.05, "host_gap_s": 0.0, "max_backoff_s": 0.05}}
    )
    try:
        for rounds in (5, 10):  # the second time after a restart
            stop = threading.Event()
            worker = IngestWorker(
                settings,
                bootstrap_servers=kafka_bootstrap,
                documents_topic="ingest-feeds",
                redis_url=redis_url,
                registry=CollectorRegistry(),
            )
            thread = start(worker, stop)
            while min(polls[f"/{name}"] for name in "abc") < rounds and thread.is_alive():
                stop.wait(0.01)
            stop.set()
            thread.join(60)
            assert not thread.is_alive()
    finally:
        server.shutdown()
        serving.join()
        server.server_close()
    records = [document for _, _, document in read_all(kafka_bootstrap, "ingest-feeds")]
    assert len(records) == len({document.id for document in records})
    for name in "abc":
        titles = {document.title for document in records if document.publisher == name}
        assert len(titles) >= 18
        assert titles == {f"{name} item number {n}" for n in range(len(titles))}


def test_a_topic_that_does_not_exist_is_said_and_not_created(kafka_bootstrap: str) -> None:
    publisher = Publisher(kafka_bootstrap, "ingest-none", kafka_options={"max_block_ms": 500})
    with pytest.raises(PublishError, match="ingest-none"):
        publisher.connect()
    publisher.close()
    admin = KafkaAdminClient(bootstrap_servers=kafka_bootstrap)
    assert "ingest-none" not in admin.list_topics()
    admin.close()


def test_a_publisher_whose_broker_died_says_so_and_closes(make_kafka: Callable[[], Any]) -> None:
    kafka = make_kafka()
    kafka.start()
    create(kafka.bootstrap, "documents")
    before = set(threading.enumerate())
    publisher = Publisher(kafka.bootstrap, "documents", timeout_s=1.5)
    publisher.connect()
    kafka.kill()
    document = compose(source="s", publisher="p", key="k", title="Bank fails", published_at=T0, seen_at=T0)
    for _ in range(2):
        with pytest.raises(PublishError):
            publisher.publish([document])
    publisher.close(timeout_s=0.5)
    assert not {thread for thread in threading.enumerate() if isinstance(thread, Sender)} - before
