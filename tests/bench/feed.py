"""Documents for the bench: the demo's headlines, each made unique by a number."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib.resources import files

from ingest.document import Document, document_id, encode
from ingest.story import story_key
from ingest.symbols import companies


def _headlines() -> list[dict[str, str]]:
    return [json.loads(line) for line in files("deploy.demo").joinpath("bankrun.jsonl").read_text().splitlines()]


def texts(count: int) -> list[str]:
    """Return `count` different headlines."""
    lines = _headlines()
    return [f"{lines[number % len(lines)]['title']} ({number})" for number in range(count)]


def documents(count: int, items_a_minute: int = 600, name: str = "bench") -> Iterator[Document]:
    """Yield `count` documents whose event time runs up to now, `items_a_minute` of it a minute."""
    lines = _headlines()
    start = datetime.now(UTC) - timedelta(minutes=count / items_a_minute)
    for number, title in enumerate(texts(count)):
        publisher = lines[number % len(lines)]["publisher"]
        at = start + timedelta(minutes=number / items_a_minute)
        yield Document(
            id=document_id(publisher, f"{name}-{number}"),
            story=story_key(title, publisher),
            source=name,
            publisher=publisher,
            title=title,
            published_at=at,
            seen_at=at,
            companies=companies(title, ()),
        )


def publish(bootstrap: str, topic: str, items: Iterator[Document], rate_s: float = 0.0) -> int:
    """Publish with kafka-python, `rate_s` items a second (0: as fast as it goes); return their number."""
    from kafka import KafkaProducer

    producer = KafkaProducer(
        bootstrap_servers=bootstrap, compression_type="lz4", linger_ms=5 if rate_s else 20, batch_size=131_072
    )
    started, number = time.perf_counter(), 0
    for number, document in enumerate(items, 1):
        if rate_s and (ahead_s := started + number / rate_s - time.perf_counter()) > 0:
            time.sleep(ahead_s)
        producer.send(topic, key=document.story.encode(), value=encode(document))
    producer.flush()
    producer.close()
    return number
