"""Records that the reading skipped, and windows that Redis lost, on a real broker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from prometheus_client import CollectorRegistry
from redis import Redis as BlockingRedis
from redis.asyncio import Redis

from alerts.buckets import Buckets
from alerts.windows import Windows, fold
from deploy.local.servers import LocalValkey
from deploy.settings import KafkaSettings
from deploy.topics import ensure_topics
from ingest.document import Document, encode
from stream import scored
from stream.batch import MessagePath
from stream.metrics import StreamMetrics
from stream.publish import KafkaPublisher
from stream.rebuild import Rebuilder, _read
from stream.record import Record, Topics
from stream.settings import StreamSettings
from tests.soak.instant_worker import InstantScorer

TOPICS = Topics("holes-documents", "holes-scored", "holes-dead")
COUNT = 40


@pytest.mark.parametrize("lost", ["nothing", "all of Redis"])
async def test_skipped_records_are_read_again_and_counted_once(
    kafka_bootstrap: str, make_valkey: Callable[[], LocalValkey], lost: str
) -> None:
    names = Topics(*(f"{name}-{lost.replace(' ', '')}" for name in TOPICS))
    settings = KafkaSettings(
        documents_topic=names.documents, scored_topic=names.scored, dead_topic=names.dead, partitions=1
    )
    await asyncio.to_thread(ensure_topics, kafka_bootstrap, settings)
    publisher = KafkaPublisher(kafka_bootstrap)
    await publisher.start()
    now = datetime.now(UTC)
    values = [
        encode(
            Document(id=f"{n}", story=f"{n}", source="t", publisher="p", title=f"{n}", published_at=now, seen_at=now)
        )
        for n in range(COUNT)
    ]
    values[11] = b"rubbish"
    await publisher.publish(names.documents, 0, [(None, value) for value in values])
    records = [Record(0, offset, int(now.timestamp() * 1000), None, value) for offset, value in enumerate(values)]

    with make_valkey() as valkey:
        redis: Redis = Redis.from_url(valkey.url)
        windows, metrics = Windows(redis), StreamMetrics(CollectorRegistry())
        rebuilder = Rebuilder(windows, names, metrics, kafka_bootstrap)
        path = MessagePath(InstantScorer(), windows, publisher, names, StreamSettings(), metrics, rebuilder.restore)
        await path.run(records[:10])
        await path.run(records[12:20] + records[22:25])  # skipped: 10, 11 (the rubbish), 20, 21
        if lost != "nothing":
            await redis.flushall()
        await path.run(records[30:])  # skipped: 25-29

        async with rebuilder._reader() as reader:
            from aiokafka import TopicPartition

            found = [
                scored.decode(record.value)
                async for chunk in _read(reader, TopicPartition(names.scored, 0), 0, None)
                for record in chunk
            ]
        expected = fold((0, scored.window_item(item)) for item in sorted(found, key=lambda item: item.offset))
        assert {item.offset for item in found} == set(range(COUNT)) - {11}
        blocking = BlockingRedis.from_url(valkey.url)
        assert Buckets(blocking, names.documents, 1).total() == expected
        assert sum(expected[key] for key in expected if key[0] == "market") == COUNT - 1
        assert await windows.offset(names.documents, 0) == COUNT - 1
        blocking.close()
        await redis.aclose()
    await publisher.stop()
