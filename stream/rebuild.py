"""Putting back into the windows what they lack: what Redis has lost, and what the reading has skipped.

Redis may lose writes or everything. Faust may skip the one record that waits to be handed over when a rebalance begins,
and commit past it (seen with 0.15.3: `Consumer._drain_messages` gives up the hand-over and moves its read offset on).
Both show as offsets that the windows lack below a batch. They are folded again from `scored`; what is not there either
is read from `documents` and scored.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from alerts.windows import Windows
from stream import scored
from stream.metrics import StreamMetrics
from stream.publish import PublishError
from stream.record import Record, Topics
from stream.scored import Scored

log = logging.getLogger(__name__)
_CHUNK = 1_000
_CLOCKS_DIFFER_MS = 600_000

Again = Callable[[Sequence[Record]], Awaitable[None]]
"""Takes records of one partition, in offset order, to their end."""


class Rebuilder:
    """Restores stretches of a partition's windows, in offset order.

    First appearances in `scored` come in offset order: a worker writes it in order, and repeats only ever go back. Only
    what is scored anew here comes later; another rebuild over it scores it once more. Dead letters among the documents
    of a stretch are written again.
    """

    def __init__(
        self,
        windows: Windows,
        topics: Topics,
        metrics: StreamMetrics,
        bootstrap_servers: str,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self._windows = windows
        self._topics = topics
        self._metrics = metrics
        self._client = {"bootstrap_servers": bootstrap_servers, **(options or {})}
        self._moved_at = float("-inf")

    def moved_at(self) -> float:
        """Return when (`time.monotonic`) a rebuild last made progress: the watchdog must not take it for a stall."""
        return self._moved_at

    async def restore(self, partition: int, first: int, last: int, again: Again) -> None:
        """Put the documents `first`..`last` of a partition into the windows; `again` scores those not in `scored`.

        Raises:
            PublishError: Kafka cannot be read now; try again.
        """
        log.warning(
            "the windows of partition %d lack offsets %d-%d; folding them from %s",
            partition, first, last, self._topics.scored,
        )  # fmt: skip
        await self._windows.rebuilding(self._topics.documents, partition, True)
        try:
            first, folded, scored_anew = await self._restore(partition, first, last, again)
        except (KafkaError, OSError) as exc:
            raise PublishError(f"cannot read partition {partition} again: {exc!r}") from exc
        await self._windows.rebuilding(self._topics.documents, partition, False)
        missing = last - first + 1 - folded - scored_anew
        self._metrics.rebuilt.inc(folded + scored_anew)
        self._metrics.missing.inc(missing)
        log.log(
            logging.WARNING if missing else logging.INFO,
            "partition %d: %d items folded from %s, %d read and scored again, %d no longer in Kafka",
            partition, folded, self._topics.scored, scored_anew, missing,
        )  # fmt: skip

    async def _restore(self, partition: int, first: int, last: int, again: Again) -> tuple[int, int, int]:
        """Return the first offset that Kafka still holds, how many were folded and how many were scored anew."""
        folded = anew = 0
        async with self._reader() as documents, self._reader() as scores:
            first, start, cut = await self._start(documents, scores, partition, first)
            next_offset, chunk = first, list[Scored]()
            async for item in self._scored(scores, partition, start):
                if item.offset > last:
                    break
                if item.offset < next_offset:
                    continue
                if cut and next_offset == first:  # what came before is older than `scored` keeps
                    first = next_offset = item.offset
                if item.offset > next_offset or len(chunk) >= _CHUNK:
                    folded += await self._fold(partition, chunk)
                    chunk = []
                    anew += await self._score(documents, partition, next_offset, item.offset - 1, again)
                chunk.append(item)
                next_offset = item.offset + 1
            folded += await self._fold(partition, chunk)
            anew += await self._score(documents, partition, next_offset, last, again)
        await self._windows.add(self._topics.documents, partition, [], last)
        return first, folded, anew

    async def _start(
        self, documents: AIOKafkaConsumer, scores: AIOKafkaConsumer, partition: int, first: int
    ) -> tuple[int, int, bool]:
        """Return the first offset of `documents` still there, where to begin in `scored`, and if that is cut off.

        An item was scored after its document was written; the margin allows for clocks that differ.
        """
        source, target = (
            TopicPartition(self._topics.documents, partition),
            TopicPartition(self._topics.scored, partition),
        )
        first = max(first, (await documents.beginning_offsets([source]))[source])
        begin = (await scores.beginning_offsets([target]))[target]
        async for chunk in _read(documents, source, first, first + 1):
            at = (await scores.offsets_for_times({target: max(0, chunk[0].timestamp - _CLOCKS_DIFFER_MS)}))[target]
            if at is not None and at.offset > begin:
                return first, at.offset, False
        return first, begin, begin > 0

    async def _fold(self, partition: int, chunk: list[Scored]) -> int:
        if chunk:
            items = [scored.window_item(item) for item in chunk]
            await self._windows.add(self._topics.documents, partition, items, chunk[-1].offset)
        return len(chunk)

    async def _score(self, reader: AIOKafkaConsumer, partition: int, first: int, last: int, again: Again) -> int:
        if first > last:
            return 0
        place = TopicPartition(self._topics.documents, partition)
        found = 0
        async for chunk in _read(reader, place, first, last + 1):
            self._moved_at = time.monotonic()
            await again([Record(partition, r.offset, r.timestamp, r.key, r.value) for r in chunk])
            found += len(chunk)
        return found

    async def _scored(self, reader: AIOKafkaConsumer, partition: int, start: int) -> AsyncIterator[Scored]:
        place = TopicPartition(self._topics.scored, partition)
        async for chunk in _read(reader, place, start, None):
            self._moved_at = time.monotonic()
            for record in chunk:
                try:
                    yield scored.decode(record.value)
                except msgspec.DecodeError as exc:
                    log.warning("%s[%d]@%d is unreadable, skipped: %s", place.topic, partition, record.offset, exc)

    @asynccontextmanager
    async def _reader(self) -> AsyncIterator[AIOKafkaConsumer]:
        consumer = AIOKafkaConsumer(enable_auto_commit=False, auto_offset_reset="earliest", **self._client)
        await consumer.start()
        try:
            yield consumer
        finally:
            await consumer.stop()


async def _read(
    consumer: AIOKafkaConsumer, place: TopicPartition, first: int, end: int | None
) -> AsyncIterator[Sequence[ConsumerRecord[bytes, bytes]]]:
    """Yield the records from `first` (or the oldest kept) up to `end`, exclusive (None: what is there now)."""
    consumer.assign([place])
    now_end = (await consumer.end_offsets([place]))[place]
    end = now_end if end is None else min(end, now_end)
    # A plain seek: `seek_to_beginning` may lose to the reset that `assign` began, and then nothing is read.
    consumer.seek(place, max(first, (await consumer.beginning_offsets([place]))[place]))
    while await consumer.position(place) < end:
        records = (await consumer.getmany(place, timeout_ms=1_000, max_records=_CHUNK)).get(place, [])
        if chunk := [record for record in records if record.offset < end]:
            yield chunk
