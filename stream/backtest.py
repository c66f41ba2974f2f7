"""A backtest: a history through the same code that runs live, in event time, with the servers' wall clock left out.

Kafka alone is replaced: records go straight to `MessagePath`, into the partitions that Kafka's producer would choose.
From there on everything is what runs live: windows by the same Lua call in a server of its own, `AlertEngine` with the
event clock. So the same items give the same alerts; tests/integration/test_backtest.py holds it. First all is counted,
here, and what the windows held is kept (`stream.kept_windows`); then that is judged (`stream.backtest_judging`). So
with other rules or thresholds it is only judged again, in the same way.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any

import msgspec
from kafka.partitioner.default import murmur2
from prometheus_client import CollectorRegistry
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from alerts.alert import Alert
from alerts.buckets import Buckets
from alerts.judging import is_calm
from alerts.settings import WindowsSettings
from alerts.windows import Windows, prefix
from ingest.document import Document
from ingest.document import encode as encode_document
from stream import dead_letter
from stream.batch import MessagePath
from stream.history import History, KeptScorer
from stream.kept_windows import KeptWindows, Made
from stream.metrics import StreamMetrics
from stream.rebuild import Again
from stream.record import Record, Topics
from stream.scored import check_labels
from stream.settings import StreamSettings

_TOGETHER = 2_048  # of few items a day it spans more than the engine's longest gap, so that empty minutes are skipped
_TOPICS = Topics("documents", "scored", "documents.dead")
_MINUTES_TOGETHER = 500


class Unscored(msgspec.Struct, frozen=True):
    """An item that the model could not score, and why."""

    title: str
    reason: str


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What came out: the last revision of every alert by the time it fired, and what the windows made of the items.

    `first` and `last` are the minutes (Unix time // 60) of the first and last item; `outcomes` is of
    `alerts.windows.Added`, by name.
    """

    alerts: list[Alert]
    first: int
    last: int
    outcomes: dict[str, int]
    unscored: list[Unscored]

    @classmethod
    def of(cls, counted: Counted, alerts: list[Alert]) -> Result:
        """Return what came out of a count that gave these alerts."""
        made = counted.made
        return cls(alerts=alerts, first=made.first, last=made.last, outcomes=made.outcomes, unscored=counted.unscored)


class _Nowhere:
    """A `Publisher` without a Kafka: `scored` is read by nobody here; dead letters are kept, cut short."""

    def __init__(self) -> None:
        self.dead: list[Unscored] = []

    async def publish(self, topic: str, partition: int, records: Iterable[tuple[bytes | None, bytes]]) -> None:
        """See `Publisher.publish`."""
        if topic != _TOPICS.dead:
            return
        for _, value in records:
            letter = dead_letter.decode(value)
            self.dead.append(Unscored(title=(letter.key or b"").decode("utf-8", "replace"), reason=letter.reason))


class Counted(msgspec.Struct, frozen=True):
    """What the windows made of a history, and what the model could not score: such a count is not kept."""

    made: Made
    unscored: list[Unscored]


NewServer = Callable[[], AbstractContextManager[str]]
"""Starts an empty server for one use; gives its `redis://` URL."""


def count(
    history: History,
    scorer: KeptScorer,
    kept: KeptWindows,
    *,
    new_server: NewServer,
    partitions: int,
    windows: WindowsSettings,
    stream: StreamSettings,
) -> Counted:
    """Put the whole history through scoring and windows, unless what they held is kept.

    Args:
        history: not empty.
        scorer: from `History.scorer`.
        kept: from `History.windows`, of the same scorer, partitions and settings; holds what the windows held.
        new_server: is asked for one where anything is counted.
        partitions: of topic `documents` where the same is to come out live: copies and evidence are kept by partition.
        windows: how items are counted.
        stream: of the message path.

    Raises:
        HistoryError: the history cannot be read.
        redis.RedisError: the server failed.
        ModelError: the windows cannot count what the model says.
        Exception: the model fails on any text.
    """
    if (made := kept.made()) is not None:
        return Counted(made, [])
    check_labels(scorer.sentiment_labels, scorer.topic_labels)
    scorer.make_ready()  # while what is kept of other settings is still there
    with new_server() as url:
        return asyncio.run(_count(history, scorer, kept, url, partitions, windows, stream))


async def _count(
    history: History,
    scorer: KeptScorer,
    kept: KeptWindows,
    redis_url: str,
    partitions: int,
    windows: WindowsSettings,
    stream: StreamSettings,
) -> Counted:
    metrics, nowhere = StreamMetrics(CollectorRegistry()), _Nowhere()
    redis = Redis.from_url(redis_url, socket_timeout=120)
    async_redis: AsyncRedis = AsyncRedis.from_url(redis_url, socket_timeout=120)
    try:
        path = MessagePath(scorer, Windows(async_redis, windows), nowhere, _TOPICS, stream, metrics, _never)
        made = await _put_through(history, path, _Server(redis, partitions, windows), kept, metrics)
    finally:
        await async_redis.aclose()
        redis.close()
    if not nowhere.dead:  # or the next run tries again to score it
        kept.finish(made)
    return Counted(made, nowhere.dead)


async def _put_through(
    history: History, path: MessagePath, server: _Server, kept: KeptWindows, metrics: StreamMetrics
) -> Made:
    """Put all items through the windows, and keep what they hold."""
    offsets = [0] * server.partitions
    first = last = 0
    ends: list[float] = []
    kept.begin()
    for documents in history.documents(_TOGETHER):
        records = [_record(document, offsets) for document in documents]
        await path.run(records)
        ends.append(documents[-1].seen_at.timestamp())
        first = first or int(documents[0].seen_at.timestamp() // 60)
        last = int(ends[-1] // 60)
        server.written((record.timestamp_ms // 60_000, record.partition) for record in records)
        server.read_out(kept, last - 1)
        server.forget(last)
    server.read_out(kept, last)
    return Made(first, last, ends, _outcomes(metrics))


def _outcomes(metrics: StreamMetrics) -> dict[str, int]:
    return {
        sample.labels["outcome"]: int(sample.value)
        for metric in metrics.windows.collect()
        for sample in metric.samples
        if sample.name.endswith("_total")
    }


class _Server:
    """What a backtest does to its server beside what runs live: reading out, and forgetting in event time."""

    def __init__(self, redis: Redis, partitions: int, settings: WindowsSettings) -> None:
        self._redis = redis
        self._settings = settings
        self.partitions = partitions
        self._prefixes = [prefix(_TOPICS.documents, partition) for partition in range(partitions)]
        self._buckets = Buckets(redis, _TOPICS.documents, partitions)
        self._unread: deque[int] = deque()
        self._keys: dict[str, deque[int]] = {"counts": deque(), "items": deque()}
        self._places: dict[int, set[int]] = {}
        self._day = 0

    def written(self, places: Iterable[tuple[int, int]]) -> None:
        """Note that these arrival minutes, in order, got items in these partitions."""
        for minute, partition in places:
            for queue in (self._unread, *self._keys.values()):
                if not queue or minute > queue[-1]:
                    queue.append(minute)
            self._places.setdefault(minute, set()).add(partition)

    def read_out(self, kept: KeptWindows, upto: int) -> None:
        """Keep what the minutes up to `upto` hold, which are complete."""
        while self._unread and self._unread[0] <= upto:
            minutes: list[int] = []
            while self._unread and self._unread[0] <= upto and len(minutes) < _MINUTES_TOGETHER:
                minutes.append(self._unread.popleft())
            counts = dict(zip(minutes, self._buckets.counts(minutes, self._places), strict=True))
            bad = [minute for minute in minutes if not is_calm(counts[minute])]
            listed = dict(zip(bad, self._buckets.listed(bad, self._places) if bad else [], strict=True))
            kept.add((minute, counts[minute], listed.get(minute, [])) for minute in minutes if counts[minute])
            for minute in minutes:
                del self._places[minute]

    def forget(self, now: int) -> None:
        """Delete what would have expired by this minute: the server's own clock has hardly moved."""
        gone = []
        for name, days in (("counts", self._settings.keep_days), ("items", self._settings.evidence_days)):
            queue = self._keys[name]
            while queue and queue[0] < now - days * 1_440:
                minute = queue.popleft()
                gone += [f"{start}{name}:{minute}" for start in self._prefixes]
        day = now // 1_440
        self._day = self._day or day - 2
        for past in range(self._day, day - 2):
            gone += [f"{start}{name}:{past}" for start in self._prefixes for name in ("ids", "stories")]
        self._day = max(self._day, day - 2)
        for at in range(0, len(gone), 1_000):
            self._redis.unlink(*gone[at : at + 1_000])


def partition_of(story: str, partitions: int) -> int:
    """Return the partition that Kafka's producers choose for a document: murmur2 of its key.

    >>> partition_of("5ad1d0fbd5c5a1e4c5d4", 8)
    2
    """
    return int((murmur2(story.encode()) & 0x7FFFFFFF) % partitions)


def _record(document: Document, offsets: list[int]) -> Record:
    partition = partition_of(document.story, len(offsets))
    offset = offsets[partition]
    offsets[partition] += 1
    key = document.story.encode()
    return Record(partition, offset, int(document.seen_at.timestamp() * 1000), key, encode_document(document))


async def _never(partition: int, first: int, last: int, again: Again) -> None:
    raise RuntimeError(f"the server of the backtest lost what was written to partition {partition}")


def line_of(alert: Alert) -> dict[str, Any]:
    """Return the alert as a line of `alerts.jsonl`: what was seen when it fired, and how it went on."""
    seen = alert.figures
    return {
        "id": alert.id,
        "fired_at": alert.started_at,
        "resolved_at": alert.resolved_at,
        "series": alert.series,
        "name": alert.name,
        "severity": alert.severity,
        "observed": seen.observed,
        "others": seen.others,
        "copies": seen.copies,
        "expected": seen.expected,
        "low": seen.low,
        "high": seen.high,
        "p": seen.p_value,
        "z": seen.z,
        "window_min": seen.window_min,
        "publishers": alert.publishers,
        "summary": alert.summary,
        "also": [each.series for each in alert.also],
        "group": alert.group,
        "parent": alert.parent,
        "children": [
            {"series": each.series, "contribution": each.contribution, "surged": each.surged} for each in alert.children
        ],
        "explains": alert.explains,
        "moved_at": alert.moved_at,
        "expected_false_share": alert.expected_false_share,
        "stories": [
            {
                "time": story.published_at,
                "source": story.publisher,
                "title": story.title,
                "link": story.url,
                "companies": story.companies,
                "negative": story.negative,
            }
            for story in alert.stories
        ],
    }
