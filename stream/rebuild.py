"""Putting back into the windows, from `scored`, what Redis has lost."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from alerts.windows import Windows
from stream import scored
from stream.batch import Topics
from stream.metrics import StreamMetrics
from stream.publish import PublishError
from stream.scored import Scored

log = logging.getLogger(__name__)
_CHUNK = 1_000


class Rebuilder:
    """Folds a stretch of `scored` into a partition's windows.

    Each offset below the group's committed one stands in `scored` (publishing comes before the ack), and repeats only
    ever go back, so first appearances come in offset order.
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

    async def restore(self, partition: int, first: int, last: int) -> None:
        """Put the documents `first`..`last` of a partition back into the windows.

        Raises:
            PublishError: Kafka cannot be read now; try again.
        """
        log.warning(
            "the windows of partition %d lack offsets %d-%d; folding them again from %s",
            partition, first, last, self._topics.scored,
        )  # fmt: skip
        await self._windows.rebuilding(self._topics.documents, partition, True)
        found = 0
        try:
            consumer = AIOKafkaConsumer(enable_auto_commit=False, auto_offset_reset="earliest", **self._client)
            await consumer.start()
            try:
                found = await self._fold(consumer, partition, first, last)
            finally:
                await consumer.stop()
        except (KafkaError, OSError) as exc:
            raise PublishError(f"cannot read {self._topics.scored}[{partition}]: {exc!r}") from exc
        await self._windows.rebuilding(self._topics.documents, partition, False)
        self._metrics.rebuilt.inc(found)
        missing = last - first + 1 - found
        if missing:
            self._metrics.missing.inc(missing)
        log.log(
            logging.WARNING if missing else logging.INFO,
            "partition %d: %d items folded again, %d offsets not in %s (dead letters, or older than it keeps)",
            partition, found, missing, self._topics.scored,
        )  # fmt: skip

    async def _fold(self, consumer: AIOKafkaConsumer, partition: int, first: int, last: int) -> int:
        here = TopicPartition(self._topics.scored, partition)
        consumer.assign([here])
        end = (await consumer.end_offsets([here]))[here]
        # A plain seek: `seek_to_beginning` may lose to the reset that `assign` began, and then nothing is read.
        consumer.seek(here, (await consumer.beginning_offsets([here]))[here])
        next_offset, found, chunk = first, 0, list[Scored]()
        while await consumer.position(here) < end:
            for record in (await consumer.getmany(here, timeout_ms=1_000, max_records=_CHUNK)).get(here, ()):
                try:
                    item = scored.decode(record.value)
                except msgspec.DecodeError as exc:
                    log.warning("%s[%d]@%d is unreadable, skipped: %s", here.topic, partition, record.offset, exc)
                    continue
                if next_offset <= item.offset <= last:
                    next_offset = item.offset + 1
                    chunk.append(item)
            if len(chunk) >= _CHUNK:
                found += await self._add(partition, chunk, chunk[-1].offset)
                chunk = []
        return found + await self._add(partition, chunk, last)

    async def _add(self, partition: int, chunk: list[Scored], position: int) -> int:
        items = [scored.window_item(item) for item in chunk]
        await self._windows.add(self._topics.documents, partition, items, position)
        return len(items)
