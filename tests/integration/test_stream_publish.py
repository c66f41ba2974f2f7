"""The stream's producer and the rebuild on a real broker."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
import redis
from aiokafka import AIOKafkaConsumer, TopicPartition
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from alerts.buckets import Buckets
from alerts.windows import Windows, fold
from deploy.settings import KafkaSettings
from deploy.topics import ensure_topics
from ingest.document import Document
from stream import scored
from stream.metrics import StreamMetrics
from stream.publish import KafkaPublisher, PublishError
from stream.rebuild import Rebuilder
from stream.record import Record, Topics

pytestmark = pytest.mark.integration

NOON = datetime(2023, 3, 10, 12, tzinfo=UTC)


def topics(bootstrap: str) -> Topics:
    """Topics of a test's own, two partitions each."""
    name = uuid.uuid4().hex
    made = Topics(f"{name}.documents", f"{name}.scored", f"{name}.dead")
    settings = KafkaSettings(
        documents_topic=made.documents, scored_topic=made.scored, dead_topic=made.dead, partitions=2
    )
    ensure_topics(bootstrap, settings)
    return made


async def read(bootstrap: str, topic: str, count: int) -> list[Any]:
    """The first `count` records of partition 1."""
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest") as consumer:
        consumer.assign([TopicPartition(topic, 1)])
        return [await asyncio.wait_for(consumer.getone(), 30) for _ in range(count)]


async def test_a_publication_larger_than_a_batch_arrives_whole_and_in_order(kafka_bootstrap: str) -> None:
    topic = topics(kafka_bootstrap).scored
    records = [(b"k%d" % n, b"%06d" % n + bytes(20_000)) for n in range(200)]  # 4 MB, eight batches
    publisher = KafkaPublisher(kafka_bootstrap)
    await publisher.start()
    await publisher.publish(topic, 1, records)
    await publisher.publish(topic, 1, [])
    await publisher.stop()
    assert [(r.key, r.value) for r in await read(kafka_bootstrap, topic, 200)] == records


async def test_a_record_that_can_never_be_sent_is_an_error_not_a_hang(kafka_bootstrap: str) -> None:
    publisher = KafkaPublisher(kafka_bootstrap)
    topic = topics(kafka_bootstrap).scored
    await publisher.start()
    with pytest.raises(PublishError, match="TooLarge"):
        await publisher.publish(topic, 1, [(None, random.Random(0).randbytes(2_000_000))])
    await publisher.publish(topic, 1, [(None, b"the next")])
    await publisher.stop()
    assert [record.value for record in await read(kafka_bootstrap, topic, 1)] == [b"the next"]


async def test_no_broker_is_a_clear_error() -> None:
    publisher = KafkaPublisher("127.0.0.1:1")
    with pytest.raises(PublishError, match="cannot reach Kafka"):
        await publisher.start()
    await publisher.stop()


async def test_the_producer_goes_on_after_its_broker_was_killed(make_kafka: Callable[[], Any]) -> None:
    kafka = make_kafka()
    await asyncio.to_thread(kafka.start)
    topic = topics(kafka.bootstrap).scored
    publisher = KafkaPublisher(kafka.bootstrap, {"request_timeout_ms": 3_000})
    await publisher.start()
    await publisher.publish(topic, 1, [(None, b"before")])
    kafka.kill()
    during = asyncio.create_task(publisher.publish(topic, 1, [(None, b"during")]))
    await asyncio.sleep(4)  # longer than a request may take
    kafka.start()
    try:
        await during
    except PublishError:  # the stream publishes the batch again
        await publisher.publish(topic, 1, [(None, b"during")])
    await publisher.publish(topic, 1, [(None, b"after")])
    await publisher.stop()
    values = [record.value for record in await read(kafka.bootstrap, topic, 3)]
    assert values == [b"before", b"during", b"after"]


def scored_items(count: int) -> list[scored.Scored]:
    """Items 0..count-1 of partition 1."""
    return [
        scored.Scored(
            document=Document(
                id=f"id-{n // 2}", story=f"s-{n // 3}", source="t", publisher="p", title=f"Title {n}",
                published_at=NOON, seen_at=NOON,
            ),
            partition=1, offset=n, sentiment=("negative", "neutral")[n % 2], sentiment_probabilities={"negative": 0.5},
            topic="Earnings", topic_probabilities={"Earnings": 1.0}, model="m", scored_at=NOON,
        )
        for n in range(count)
    ]  # fmt: skip


async def test_windows_are_folded_again_from_scored_whatever_else_it_holds(
    kafka_bootstrap: str, redis_url: str
) -> None:
    """`scored` with repeats, records of others and a torn one; each rebuild reads from its beginning."""
    names = topics(kafka_bootstrap)
    items = scored_items(3_000)
    lines = [scored.encode(item) for item in items]
    lines = [*lines[:1_800], *lines[1_500:], b"not JSON", b'{"topic":"\xff"}', *lines[2_990:]]
    publisher = KafkaPublisher(kafka_bootstrap)
    await publisher.start()
    await publisher.publish(names.scored, 1, [(None, line) for line in lines])
    await publisher.stop()

    async def unneeded(records: Sequence[Record]) -> None:
        raise AssertionError(f"all are in scored, and {records} were to be scored again")

    client: Redis = Redis.from_url(redis_url)
    windows, registry = Windows(client), CollectorRegistry()
    rebuilder = Rebuilder(windows, names, StreamMetrics(registry), kafka_bootstrap)
    expected = fold((1, scored.window_item(item)) for item in items)
    with redis.Redis.from_url(redis_url) as plain:
        buckets = Buckets(plain, names.documents, 2)
        for turn in range(1, 4):
            await rebuilder.restore(1, 0, 2_999, unneeded)
            assert buckets.total() == expected
            assert await windows.offset(names.documents, 1) == 2_999
            assert not buckets.progress()[1].rebuilding
            assert registry.get_sample_value("newsquake_stream_rebuilt_total") == 3_000 * turn
            for key in plain.scan_iter(f"nq:{{{names.documents}-1}}:*"):
                plain.delete(key)
        await rebuilder.restore(1, 0, 3_004, unneeded)  # five are nowhere
        assert await windows.offset(names.documents, 1) == 3_004
        assert registry.get_sample_value("newsquake_stream_missing_total") == 5
    await client.aclose()
