"""Writing `scored` and `documents.dead` from the event loop, in whole batches.

aiokafka's `send` a record turns quadratic under load (aiokafka issue 528); `create_batch`/`send_batch` does not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError


class PublishError(RuntimeError):
    """Kafka did not take the records; the batch must be published again."""


class Publisher(Protocol):
    """What the path needs of Kafka's producing side."""

    async def publish(self, topic: str, partition: int, records: Iterable[tuple[bytes | None, bytes]]) -> None:
        """Write `(key, value)` records to a partition in order; returns once the broker has them all.

        Raises:
            PublishError: some may not be written.
        """


class KafkaPublisher:
    """A `Publisher` on aiokafka: idempotent, acks=all, lz4."""

    def __init__(self, bootstrap_servers: str, options: Mapping[str, Any] | None = None) -> None:
        self._producer = AIOKafkaProducer(
            bootstrap_servers=bootstrap_servers,
            client_id="newsquake-stream",
            acks="all",
            enable_idempotence=True,
            compression_type="lz4",
            max_batch_size=512 * 1024,
            max_request_size=4 * 1024 * 1024,
            **(options or {}),
        )

    async def start(self) -> None:
        """Connect; raises `PublishError` when no broker answers."""
        try:
            await self._producer.start()
        except (KafkaError, OSError) as exc:
            raise PublishError(f"cannot reach Kafka: {exc!r}") from exc

    async def stop(self) -> None:
        """Flush and close."""
        await self._producer.stop()

    async def publish(self, topic: str, partition: int, records: Iterable[tuple[bytes | None, bytes]]) -> None:
        """See `Publisher.publish`."""
        try:
            batch = self._producer.create_batch()
            for key, value in records:
                if batch.append(key=key, value=value, timestamp=None) is None:  # full
                    # One after the other: `scored` is out of order when a later one is taken and an earlier one not.
                    await (await self._producer.send_batch(batch, topic, partition=partition))
                    batch = self._producer.create_batch()
                    if batch.append(key=key, value=value, timestamp=None) is None:
                        raise PublishError(f"a record of {len(value)} bytes does not fit into a batch for {topic}")
            if batch.record_count():
                await (await self._producer.send_batch(batch, topic, partition=partition))
        except (KafkaError, OSError) as exc:
            raise PublishError(f"{topic}[{partition}]: {exc!r}") from exc
