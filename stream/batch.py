"""The message path: from a batch of records to windows and `scored`, in one short function.

`MessagePath.score` and `MessagePath.write` are two halves, so that a worker can score one batch while the one before it
is written; `MessagePath.run` is both, in order. The caller acks afterwards, in offset order.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from operator import itemgetter
from typing import Protocol

import msgspec
from redis.exceptions import RedisError

from alerts.windows import GapError, WindowItem, Windows
from ingest.document import Document, DocumentError
from ingest.document import decode as decode_document
from model.errors import DeviceError
from model.scorer import Scores
from stream import dead_letter, scored
from stream.metrics import StreamMetrics
from stream.publish import Publisher, PublishError
from stream.rebuild import Again
from stream.record import Record, Topics
from stream.scored import Scored
from stream.settings import StreamSettings

log = logging.getLogger(__name__)
_EPOCH = datetime.fromtimestamp(0, UTC)
_PROBE = (
    Record(0, 0, 0, None, None),
    Document(
        id="probe",
        story="probe",
        source="probe",
        publisher="probe",
        title="Shares were little changed. " * 80,  # as much as the network reads at once: no text needs more memory
        published_at=_EPOCH,
        seen_at=_EPOCH,
    ),
)


class Scoring(Protocol):
    """What the path needs of `model.scorer.Scorer`."""

    version: str
    fingerprint: str
    device: str
    sentiment_labels: tuple[str, ...]
    topic_labels: tuple[str, ...]

    def score(self, texts: Sequence[str]) -> Scores:
        """Return the probabilities of each text; blocking, called in a thread."""


@dataclass
class ScoredBatch:
    """Records `first`..`last` of one partition, without a hole, what became of them, and the first one's time."""

    partition: int
    first: int
    last: int
    items: list[Scored]
    dead: list[tuple[Record, str]]
    oldest_ms: int


class MessagePath:
    """Scores records and writes their effects; holds no state between batches."""

    def __init__(
        self,
        scorer: Scoring,
        windows: Windows,
        publisher: Publisher,
        topics: Topics,
        settings: StreamSettings,
        metrics: StreamMetrics,
        restore: Callable[[int, int, int, Again], Awaitable[None]],
    ) -> None:
        """`restore` is `Rebuilder.restore`, called when the windows lack offsets below a batch."""
        self._scorer = scorer
        self._windows = windows
        self._publisher = publisher
        self._topics = topics
        self._settings = settings
        self._metrics = metrics
        self._restore = restore
        metrics.model.labels(scorer.version, scorer.device).set(1)
        for topic in scorer.topic_labels:  # there from the start, so that a rate sees the first item
            for sentiment in scorer.sentiment_labels:
                metrics.sentiment.labels(topic, sentiment)

    async def run(self, records: Sequence[Record]) -> None:
        """Take records of any partitions to their end: in the windows, in `scored` or in `documents.dead`."""
        await self.write(await self.score(records))

    async def score(self, records: Sequence[Record]) -> list[ScoredBatch]:
        """Decode and score; nothing is written yet.

        Raises:
            Exception: the model fails, whatever the text, so the worker must stop: nothing may be dropped.
        """
        self._metrics.batch_size.observe(len(records))
        # A partition that left this worker and came back may have later records waiting before earlier ones.
        records = sorted(records, key=itemgetter(0, 1))  # partition, offset
        with self._metrics.stage.labels("decode").time():
            good, dead = self._decode(records)
        with self._metrics.stage.labels("score").time():
            items, unscored = await asyncio.to_thread(self._score, good)
        batches: list[ScoredBatch] = []
        owner: dict[tuple[int, int], ScoredBatch] = {}
        for record in records:
            batch = batches[-1] if batches else None
            # A hole in the offsets begins a new batch, so that the windows see it: see `stream.rebuild`.
            if batch is None or batch.partition != record.partition or record.offset > batch.last + 1:
                batch = ScoredBatch(record.partition, record.offset, record.offset, [], [], record.timestamp_ms)
                batches.append(batch)
            batch.last = record.offset
            owner[record.partition, record.offset] = batch
        for item in items:
            owner[item.partition, item.offset].items.append(item)
        for record, reason in dead + unscored:
            owner[record.partition, record.offset].dead.append((record, reason))
        return batches

    async def write(self, batches: Sequence[ScoredBatch]) -> None:
        """Write windows, then `scored` and dead letters; returns once all are durable. Tries until it works."""
        by_partition: dict[int, list[ScoredBatch]] = {}
        for batch in batches:
            by_partition.setdefault(batch.partition, []).append(batch)
        await asyncio.gather(*map(self._count_in_order, by_partition.values()))
        await self._until_done("publish", partial(self._publish, batches))
        now_s = time.time()
        for batch in batches:
            self._metrics.records.labels("scored").inc(len(batch.items))
            self._metrics.records.labels("dead").inc(len(batch.dead))
            for labels, number in Counter((item.topic, item.sentiment) for item in batch.items).items():
                self._metrics.sentiment.labels(*labels).inc(number)
            self._metrics.latency.observe(max(0.0, now_s - batch.oldest_ms / 1000))

    def _decode(self, records: Sequence[Record]) -> tuple[list[tuple[Record, Document]], list[tuple[Record, str]]]:
        latest = datetime.now(UTC) + timedelta(seconds=self._settings.future_s)
        good: list[tuple[Record, Document]] = []
        dead: list[tuple[Record, str]] = []
        for record in records:
            try:
                document = decode_document(record.value)
                if document.seen_at > latest:
                    raise DocumentError(f"seen_at {document.seen_at.isoformat()} lies in the future")
                good.append((record, document))
            except DocumentError as exc:
                dead.append((record, str(exc)))
        return good, dead

    def _score(self, good: list[tuple[Record, Document]]) -> tuple[list[Scored], list[tuple[Record, str]]]:
        if not good:
            return [], []
        try:
            return self._scored(good), []
        except Exception:  # whatever the model raises: one text may be the cause, and the others must not wait for it
            log.exception("the model failed on a batch of %d texts; trying them one by one", len(good))
        items, failed = self._singly(good)
        if failed:
            self._scored([_PROBE])  # raises when the model is broken, not the texts
            again, failed = self._singly([each for each, _ in failed])  # the device may have failed for a moment
            items = sorted(items + again, key=lambda item: (item.partition, item.offset))
        for _, exc in failed:
            if isinstance(exc, DeviceError):  # no text's fault
                raise exc
        return items, [(record, f"the model failed on this text: {exc!r}") for (record, _), exc in failed]

    def _singly(
        self, good: list[tuple[Record, Document]]
    ) -> tuple[list[Scored], list[tuple[tuple[Record, Document], Exception]]]:
        items: list[Scored] = []
        failed: list[tuple[tuple[Record, Document], Exception]] = []
        for each in good:
            try:
                items += self._scored([each])
            except Exception as exc:  # noqa: BLE001  # whatever the model raises
                failed.append((each, exc))
        return items, failed

    def _scored(self, good: list[tuple[Record, Document]]) -> list[Scored]:
        scores = self._scorer.score([scored.text_of(document) for _, document in good])
        if not scores.finite:
            raise ValueError("the model gave a probability that is not a number")
        placed = [(record.partition, record.offset, document) for record, document in good]
        scorer = self._scorer
        return scored.join(placed, scores, scorer.sentiment_labels, scorer.topic_labels, scorer.version)

    async def restore(self, partition: int, first: int, last: int) -> None:
        """Put the documents `first`..`last` of a partition, which the windows lack, into them.

        Raises:
            PublishError: Kafka cannot be read or written now; try again.
            RedisError: Redis fails; try again.
        """
        await self._restore(partition, first, last, self._again)

    async def _again(self, records: Sequence[Record]) -> None:
        for batch in await self.score(records):
            await self._windows.add(self._topics.documents, batch.partition, _window_items(batch), batch.last)
            await self._publish([batch])

    async def _count_in_order(self, batches: Sequence[ScoredBatch]) -> None:
        for batch in batches:
            await self._until_done("windows", partial(self._count, batch))

    async def _count(self, batch: ScoredBatch) -> None:
        items = _window_items(batch)
        try:
            added = await self._windows.add(self._topics.documents, batch.partition, items, batch.last, batch.first)
        except GapError as gap:
            await self.restore(batch.partition, gap.applied + 1, batch.first - 1)
            added = await self._windows.add(self._topics.documents, batch.partition, items, batch.last)
        for outcome, number in msgspec.structs.asdict(added).items():
            self._metrics.windows.labels(outcome).inc(number)

    async def _publish(self, batches: Sequence[ScoredBatch]) -> None:
        writes = []
        letters: list[tuple[bytes | None, bytes]] = []
        for batch in batches:
            if batch.items:
                values = [(item.document.story.encode(), scored.encode(item)) for item in batch.items]
                writes.append(self._publisher.publish(self._topics.scored, batch.partition, values))
            for record, reason in batch.dead:
                where = f"{self._topics.documents}[{record.partition}]@{record.offset}"
                log.warning("%s is no usable document and goes to %s: %s", where, self._topics.dead, reason)
                letter = dead_letter.dead_letter(
                    self._topics.documents, record, reason, self._settings.dead_value_bytes
                )
                letters.append((letter.key, dead_letter.encode(letter)))  # a whole key may not fit
        if letters:
            writes.append(self._publisher.publish(self._topics.dead, 0, letters))
        await asyncio.gather(*writes)

    async def _until_done(self, stage: str, effect: Callable[[], Awaitable[None]]) -> None:
        pause_s = 0.1
        while True:
            try:
                with self._metrics.stage.labels(stage).time():
                    return await effect()
            except (RedisError, PublishError, OSError) as exc:
                self._metrics.retries.labels(stage).inc()
                log.warning("%s failed, next try in %.1f s, nothing is lost: %s", stage, pause_s, exc)
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, self._settings.retry_max_s)


def _window_items(batch: ScoredBatch) -> list[WindowItem]:
    return [scored.window_item(item) for item in batch.items]
