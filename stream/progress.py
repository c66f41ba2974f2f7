"""Progress a partition: lag, idleness, and the watchdog's view of a stall.

The ends of the partitions are asked of the broker by a client of its own, since a stuck fetcher would believe that it
has caught up (aiokafka issue 718; Faust issues 175, 523, 532, 640).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from redis.exceptions import RedisError

from alerts.windows import Windows
from stream.batch import ScoredBatch
from stream.metrics import StreamMetrics
from stream.publish import PublishError
from stream.settings import StreamSettings

log = logging.getLogger(__name__)
_EVERY_S = 1.0


class TopicReplacedError(RuntimeError):
    """The topic is not the one whose offsets the windows hold: counting on would take new records for repeats."""

    def __init__(self, topic: str, partition: int, applied: int, end: int) -> None:
        super().__init__(
            f"{topic}[{partition}] ends at offset {end}, but the windows hold offsets up to {applied}: the topic was "
            f"made anew or lost records. If so, delete the key nq:{{{topic}-{partition}}}:progress in Redis, or name "
            "another topic; counts stay, and ids keep what was counted from counting twice"
        )


class Progress:
    """Follows the partitions that this worker reads; `health` may be asked from any thread."""

    def __init__(
        self,
        topic: str,
        windows: Windows,
        settings: StreamSettings,
        metrics: StreamMetrics,
        restore: Callable[[int, int, int], Awaitable[None]],
        restoring_at: Callable[[], float],
        bootstrap_servers: str,
        options: Mapping[str, Any] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`restore` and `restoring_at` are `MessagePath.restore` and `Rebuilder.moved_at`."""
        self.topic = topic
        self._windows = windows
        self._settings = settings
        self._metrics = metrics
        self._restore = restore
        self._restoring_at = restoring_at
        self._client = {"bootstrap_servers": bootstrap_servers, **(options or {})}
        self._clock = clock
        self._next_offset: dict[int, int] = {}  # partition -> first offset not done
        self._lag: dict[int, int] = {}
        self._moved_at: dict[int, float] = {}
        self._looked_at = clock()
        self._caught_up = False

    def done(self, batches: Sequence[ScoredBatch]) -> None:
        """Note that these batches are written and acked."""
        now = self._clock()
        for batch in batches:
            if batch.partition in self._lag:  # else it has gone to another worker
                self._next_offset[batch.partition] = batch.last + 1
                self._moved_at[batch.partition] = now

    async def run(self, assigned: Callable[[], set[int]]) -> None:
        """Measure the lag and tell the windows which partitions have nothing waiting, once a second, for ever.

        Raises:
            TopicReplacedError: the topic ends before what the windows hold.
        """
        while True:
            try:
                consumer = AIOKafkaConsumer(enable_auto_commit=False, group_id=self._settings.group, **self._client)
                await consumer.start()
                try:
                    while True:
                        await self._look(consumer, assigned())
                        await asyncio.sleep(_EVERY_S)
                finally:
                    await consumer.stop()
            except (KafkaError, PublishError, RedisError, OSError) as exc:
                self._metrics.retries.labels("offsets").inc()
                log.warning("cannot follow the offsets of %s, next try in 2 s: %s", self.topic, exc)
                await asyncio.sleep(2.0)

    async def _look(self, consumer: AIOKafkaConsumer, assigned: set[int]) -> None:
        now_ms, now = int(time.time() * 1000), self._clock()
        for partition in self._lag.keys() - assigned:  # taken by another worker
            self._forget(partition)
        places = [TopicPartition(self.topic, partition) for partition in sorted(assigned)]
        held = {place: await self._windows.offset(self.topic, place.partition) for place in places}  # before the ends
        ends = await consumer.end_offsets(places) if places else {}
        for place, end in ends.items():
            partition, applied = place.partition, held[place]
            if applied is not None and applied >= end:
                raise TopicReplacedError(self.topic, partition, applied, end)
            if partition not in self._lag:
                self._moved_at[partition] = now
            lag = end - self._next_offset.get(partition, 0)
            if lag > 0:  # what this worker has not done itself, another may have
                committed = await consumer.committed(place)
                first = max(committed or 0, (await consumer.beginning_offsets([place]))[place])
                self._next_offset[partition] = max(first, self._next_offset.get(partition, 0))
                lag = end - self._next_offset[partition]
            lag = max(0, lag)
            if lag == 0:
                self._moved_at[partition] = now
                await self._idle(partition, end, now_ms)
            self._lag[partition] = lag
            self._metrics.lag.labels(str(partition)).set(lag)
        self._metrics.partitions.set(len(assigned))
        self._looked_at = now
        if not self._caught_up and assigned and all(lag <= self._settings.max_batch for lag in self._lag.values()):
            self._caught_up = True
            log.info("caught up on partitions %s", sorted(assigned))
        self._metrics.ready.set(float(self._caught_up))

    async def _idle(self, partition: int, end: int, now_ms: int) -> None:
        applied = await self._windows.offset(
            self.topic, partition
        )  # asked after the end: a batch may just have gone in
        first = 0 if applied is None else applied + 1
        if first < end:  # Redis lost what this group had done
            await self._restore(partition, first, end - 1)
        else:  # a worker that was killed while it folded may have left its note
            await self._windows.rebuilding(self.topic, partition, False)
        await self._windows.idle(self.topic, partition, now_ms)

    def _forget(self, partition: int) -> None:
        for table in (self._next_offset, self._lag, self._moved_at):
            table.pop(partition, None)
        self._metrics.lag.remove(str(partition))

    def stalled(self) -> list[str]:
        """Return a line for each partition that has records waiting and does not move."""
        now, limit_s = self._clock(), self._settings.stall_s
        if now - self._restoring_at() < limit_s:
            return []
        lines = [
            f"partition {partition}: {self._lag.get(partition, 0)} records wait, no progress for {now - moved_at:.0f} s"
            for partition, moved_at in list(self._moved_at.items())
            if self._lag.get(partition, 0) > 0 and now - moved_at > limit_s
        ]
        if now - self._looked_at > limit_s:
            lines.append(f"the event loop or the broker has not answered for {now - self._looked_at:.0f} s")
        return lines

    def health(self) -> tuple[list[str], list[str]]:
        """Return why the worker is not live and why it is not ready (both empty: fine)."""
        waiting = [] if self._caught_up else [f"catching up: {sum(self._lag.values())} records wait"]
        return self.stalled(), waiting
