"""The newest scored items: the tail of Kafka's topic `scored`, read without a group and without commits."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from alerts.records import UNREADABLE

log = logging.getLogger(__name__)

_KEPT, _BEHIND = 1_000, 50
_POLL_MS, _RETRY_S = 500, 5.0
_SILENT_S, _TIMEOUT_MS = 15.0, 5_000
_SAY_S = 60.0
"""Between two lines about records that are left out: one producer of another version can send thousands a second."""


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One scored item. All texts are as they came: escape them where they are shown."""

    id: str
    number: int
    seen_at: datetime
    title: str
    url: str
    publisher: str
    source: str
    companies: tuple[str, ...]
    sentiment: str
    sentiment_confidence: float
    topic: str
    topic_confidence: float
    model: str


class _Document(msgspec.Struct):
    id: str
    title: str
    publisher: str
    source: str
    seen_at: datetime
    url: str = ""
    companies: tuple[str, ...] = ()


class _Scored(msgspec.Struct):
    document: _Document
    sentiment: str
    sentiment_probabilities: dict[str, float]
    topic: str
    topic_probabilities: dict[str, float]
    model: str


_decoder = msgspec.json.Decoder(_Scored)


class Stream:
    """Keeps the last items in memory. Without `bootstrap_servers` it stays empty."""

    def __init__(self, bootstrap_servers: str | None, topic: str, options: Mapping[str, Any] | None = None) -> None:
        self._bootstrap, self._topic, self._options = bootstrap_servers, topic, dict(options or {})
        self._items: deque[Item] = deque(maxlen=_KEPT)
        self._ids: set[str] = set()
        self._lock = threading.Lock()
        self._number = 0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._say_at = 0.0
        self.left_out = 0
        """Records that were no scored items."""
        self.problem = "" if bootstrap_servers else "no Kafka is set"

    def start(self) -> None:
        """Begin to read, in a thread."""
        if self._bootstrap and self._thread is None:
            self.problem = "has not begun to read"
            self._thread = threading.Thread(target=self._run, name="stream", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=5)

    def since(self, number: int, most: int = 200) -> list[Item]:
        """Return the newest items with a number above `number`, the oldest first."""
        with self._lock:
            return [item for item in list(self._items)[-most:] if item.number > number]

    @property
    def model(self) -> str:
        """The model that scored the newest item, "" before the first."""
        with self._lock:
            return self._items[-1].model if self._items else ""

    @property
    def number(self) -> int:
        """The number of the newest item, 0 before the first."""
        return self._number

    def take(self, record: bytes | None) -> None:
        """Take in a record; one that is none, or came before, is left out."""
        try:
            scored = _decoder.decode(record or b"")
        except UNREADABLE as exc:
            self.left_out += 1
            if time.monotonic() >= self._say_at:
                self._say_at = time.monotonic() + _SAY_S
                log.warning("a record of %s is no scored item, as %d so far: %s", self._topic, self.left_out, exc)
            return
        document = scored.document
        with self._lock:
            if document.id in self._ids:
                return
            if len(self._items) == _KEPT:
                self._ids.discard(self._items[0].id)
            self._number += 1
            self._ids.add(document.id)
            self._items.append(
                Item(
                    id=document.id,
                    number=self._number,
                    seen_at=document.seen_at,
                    title=document.title,
                    url=document.url,
                    publisher=document.publisher,
                    source=document.source,
                    companies=document.companies,
                    sentiment=scored.sentiment,
                    sentiment_confidence=scored.sentiment_probabilities.get(scored.sentiment, 0.0),
                    topic=scored.topic,
                    topic_confidence=scored.topic_probabilities.get(scored.topic, 0.0),
                    model=scored.model,
                )
            )

    def _run(self) -> None:
        from kafka.errors import KafkaError

        while not self._stop.is_set():
            try:
                self._read()
            except Exception as exc:  # the client raises more than its own errors, and the thread must go on
                self.problem = f"Kafka cannot be read: {exc}"
                usual = isinstance(exc, (KafkaError, OSError))
                log.warning("%s; trying again in %.0f s", self.problem, _RETRY_S, exc_info=not usual)
                self._stop.wait(_RETRY_S)

    def _read(self) -> None:
        from kafka import KafkaConsumer, TopicPartition

        consumer = KafkaConsumer(bootstrap_servers=self._bootstrap, enable_auto_commit=False, **self._options)
        try:
            while not self._stop.is_set():
                partitions = consumer.partitions_for_topic(self._topic)
                if partitions:
                    break
                self.problem = f"there is no topic {self._topic} yet"
                self._stop.wait(1.0)
            else:
                return
            assigned = [TopicPartition(self._topic, number) for number in sorted(partitions)]
            consumer.assign(assigned)
            begins, ends = consumer.beginning_offsets(assigned), consumer.end_offsets(assigned)
            for partition in assigned:
                consumer.seek(partition, max(begins[partition], ends[partition] - _BEHIND))
            heard = time.monotonic()
            while not self._stop.is_set():
                found = consumer.poll(timeout_ms=_POLL_MS)
                if found:
                    heard = time.monotonic()
                elif time.monotonic() - heard > _SILENT_S:
                    consumer.end_offsets(
                        assigned, timeout_ms=_TIMEOUT_MS
                    )  # it fails when nobody is there; polls do not
                    heard = time.monotonic()
                self.problem = ""
                for record in sorted((r for rs in found.values() for r in rs), key=lambda record: record.timestamp):
                    self.take(record.value)
                if (consumer.partitions_for_topic(self._topic) or partitions) != partitions:
                    return  # the topic has got more of them: begin again with all
        finally:
            consumer.close()
