"""Parts for tests of the stream: real windows in Valkey, a scorer that answers at once, a Kafka in memory."""

from __future__ import annotations

import json
import zlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
import redis
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from alerts.buckets import Buckets
from alerts.windows import Count, Windows, fold
from deploy.local.servers import LocalValkey
from ingest.document import Document
from ingest.document import encode as encode_document
from model.scorer import Scores
from stream import dead_letter, scored
from stream.batch import MessagePath
from stream.metrics import StreamMetrics
from stream.publish import PublishError
from stream.rebuild import Again
from stream.record import Record, Topics
from stream.settings import StreamSettings

T0 = datetime(2023, 3, 10, 12, tzinfo=UTC)


class HashScorer:
    """Probabilities by a hash of the text. A text with POISON raises, one with NAN has none.

    `broken` always raises, `no_numbers` never gives any; the next calls raise what `failures` holds, None for nothing.
    """

    version = fingerprint = "hash"
    sentiment_labels = ("negative", "neutral", "positive")
    topic_labels = ("Earnings", "Macro")
    device = "none"

    def __init__(self) -> None:
        self.broken = self.no_numbers = False
        self.failures: list[Exception | None] = []

    def score(self, texts: Sequence[str]) -> Scores:
        if self.broken or any("POISON" in text for text in texts):
            raise ValueError("poison")
        if self.failures and (failure := self.failures.pop(0)):
            raise failure
        hashes = [zlib.crc32(text.encode()) for text in texts]
        sentiment = np.array([np.roll([0.7, 0.2, 0.1], n % 3) for n in hashes], np.float32)
        sentiment[[self.no_numbers or "NAN" in text for text in texts]] = np.nan
        topic = np.array([np.roll([0.6, 0.4], n // 3 % 2) for n in hashes], np.float32)
        return Scores(sentiment, topic)


class MemoryKafka:
    """A `Publisher` that keeps what it took; the next `failures` calls take their first record only, and fail."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, int], list[tuple[bytes | None, bytes]]] = {}
        self.failures = 0

    async def publish(self, topic: str, partition: int, records: Iterable[tuple[bytes | None, bytes]]) -> None:
        taken = list(records)
        fails, self.failures = self.failures > 0, max(0, self.failures - 1)
        self.records.setdefault((topic, partition), []).extend(taken[:1] if fails else taken)
        if fails:
            raise PublishError("the broker went away")


class Bench:
    """A message path on real windows, and what came out of it."""

    def __init__(self, client: Redis, url: str) -> None:
        self._url = url
        self.scorer, self.kafka = HashScorer(), MemoryKafka()
        self.registry = CollectorRegistry()
        self.metrics = StreamMetrics(self.registry)
        self.settings = StreamSettings(retry_max_s=0.05)
        self.topics = Topics("documents", "scored", "documents.dead")
        self.windows = Windows(client)
        self.restored: list[tuple[int, int, int]] = []
        self.path = MessagePath(
            self.scorer, self.windows, self.kafka, self.topics, self.settings, self.metrics, self._restore
        )

    async def _restore(self, partition: int, first: int, last: int, again: Again) -> None:
        self.restored.append((partition, first, last))
        lost = [item for item in self.scored(partition) if first <= item.offset <= last]
        await self.windows.add("documents", partition, [scored.window_item(item) for item in lost], last)

    def scored(self, partition: int = 0) -> list[scored.Scored]:
        """What `scored` holds, without repeats of an offset, in offset order."""
        found: dict[int, scored.Scored] = {}
        for _, value in self.kafka.records.get(("scored", partition), ()):
            item = scored.decode(value)
            found.setdefault(item.offset, item)
        return [found[offset] for offset in sorted(found)]

    def dead(self) -> list[dead_letter.DeadLetter]:
        """The dead letters, in the order written."""
        return [dead_letter.decode(value) for _, value in self.kafka.records.get(("documents.dead", 0), ())]

    def counts(self) -> dict[Count, int]:
        """What the windows hold."""
        with redis.Redis.from_url(self._url) as client:
            return Buckets(client, "documents", 2).total()

    def fold(self) -> dict[Count, int]:
        """What they must hold."""
        return fold((item.partition, scored.window_item(item)) for n in (0, 1) for item in self.scored(n))

    def value(self, name: str, **labels: str) -> float:
        """A metric."""
        return self.registry.get_sample_value(f"newsquake_stream_{name}", labels) or 0.0


@pytest.fixture(scope="session")
def valkey_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalValkey]:
    """A Valkey that runs as long as the tests of this room."""
    with LocalValkey(tmp_path_factory.mktemp("stream-valkey")) as server:
        yield server


@pytest.fixture
async def bench(valkey_server: LocalValkey) -> AsyncIterator[Bench]:
    """A message path on empty windows."""
    client: Redis = Redis.from_url(valkey_server.url)
    await client.flushall()
    yield Bench(client, valkey_server.url)
    await client.aclose()


@pytest.fixture
def hash_scorer() -> HashScorer:
    """A scorer that answers at once."""
    return HashScorer()


@pytest.fixture(scope="session")
def document() -> Callable[..., Document]:
    """Makes documents; number `n` came `n` seconds after noon."""

    def make(n: int, **fields: Any) -> Document:
        at = T0 + timedelta(seconds=n)
        plain = {
            "id": f"id-{n}", "story": f"story-{n}", "source": "test", "publisher": f"Publisher {n % 3}",
            "title": f"Title {n}", "published_at": at, "seen_at": at, "companies": ("AAPL",) if n % 2 else (),
        }  # fmt: skip
        return Document(**{**plain, **fields})

    return make


@pytest.fixture(scope="session")
def record(document: Callable[..., Document]) -> Callable[..., Record]:
    """Makes records: `record(offset)` of a document, `record(offset, b"...")` of anything."""

    def make(
        offset: int, value: bytes | None = b"\0", partition: int = 0, key: bytes | None = b"k", **f: Any
    ) -> Record:
        value = encode_document(document(offset + 100_000 * partition, **f)) if value == b"\0" else value
        return Record(partition, offset, 1_700_000_000_000 + offset, key, value)

    return make


@pytest.fixture(scope="session")
def plain_document() -> dict[str, Any]:
    """A document as the JSON object that it is on the wire."""
    at = T0.isoformat()
    plain = {"id": "i", "story": "s", "source": "t", "publisher": "p", "title": "x", "published_at": at, "seen_at": at}
    return json.loads(json.dumps(plain))  # type: ignore[no-any-return]
