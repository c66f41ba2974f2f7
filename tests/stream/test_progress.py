"""Lag, idleness and stalls, with a clock of the test's own and real windows."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka import TopicPartition
from redis.asyncio import Redis

from deploy.local.servers import LocalValkey
from stream.batch import ScoredBatch
from stream.progress import Progress, TopicReplacedError
from stream.settings import StreamSettings


class Broker:
    """What `Progress` asks of a consumer: ends, beginnings and committed offsets of partitions."""

    def __init__(self, ends: dict[int, int]) -> None:
        self.ends, self.begins, self.commits = ends, dict.fromkeys(ends, 0), dict[int, int | None]()

    async def end_offsets(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        return {place: self.ends[place.partition] for place in places}

    async def beginning_offsets(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        return {place: self.begins[place.partition] for place in places}

    async def committed(self, place: TopicPartition) -> int | None:
        return self.commits.get(place.partition)


class Watched:
    """A `Progress` at a time that the test sets."""

    def __init__(self, bench: Any, broker: Broker) -> None:
        self.now_s, self.restoring_at_s = 1_000.0, 0.0
        self.bench, self.broker = bench, broker
        self.progress = Progress(
            "documents", bench.windows, StreamSettings(stall_s=60, max_batch=10), bench.metrics, bench.path.restore,
            lambda: self.restoring_at_s, "unused", clock=lambda: self.now_s,
        )  # fmt: skip

    async def look(self, *assigned: int) -> None:
        await self.progress._look(self.broker, set(assigned))  # type: ignore[arg-type]

    def done(self, partition: int, last: int) -> None:
        self.progress.done([ScoredBatch(partition, 0, last, [], [], 0)])


@pytest.fixture
def watched(bench: Any) -> Watched:
    """Two partitions with 100 records each, none done."""
    return Watched(bench, Broker({0: 100, 1: 100}))


async def test_lag_falls_with_what_this_worker_does_and_with_what_the_group_had_done(watched: Watched) -> None:
    watched.broker.commits[1] = 95
    await watched.look(0, 1)
    assert watched.progress.health() == ([], ["catching up: 105 records wait"])
    watched.done(0, 89)
    await watched.look(0, 1)
    assert watched.bench.value("lag_records", partition="0") == 10
    assert watched.bench.value("lag_records", partition="1") == 5
    assert watched.progress.health() == ([], [])
    watched.broker.ends[0] = 500
    await watched.look(0, 1)
    assert watched.progress.health() == ([], [])  # ready once is ready: a later lag is a metric


@pytest.mark.parametrize("committed", [None, 20])
async def test_lag_counts_from_the_beginning_that_kafka_still_has(watched: Watched, committed: int | None) -> None:
    watched.broker.begins[0], watched.broker.commits[0] = 40, committed
    await watched.look(0)
    assert watched.bench.value("lag_records", partition="0") == 60


async def test_a_topic_that_was_made_anew_ends_the_worker_with_what_to_do(watched: Watched, record: Any) -> None:
    await watched.bench.path.run([record(n) for n in range(10)])
    watched.broker.ends[0] = 10
    watched.broker.commits[0] = 10
    await watched.look(0)
    watched.broker.ends[0] = 9
    with pytest.raises(TopicReplacedError, match=r"delete the key nq:{documents-0}:progress"):
        await watched.look(0)


async def test_a_rebuild_that_moves_is_no_stall(watched: Watched) -> None:
    await watched.look(0)
    watched.now_s += 61
    watched.restoring_at_s = watched.now_s - 5
    assert watched.progress.stalled() == []
    watched.restoring_at_s -= 60
    assert any("records wait" in line for line in watched.progress.stalled())


async def test_a_partition_that_does_not_move_while_records_wait_is_a_stall(watched: Watched) -> None:
    await watched.look(0, 1)
    for _ in range(3):
        watched.now_s += 25
        watched.done(0, 9)
        await watched.look(0, 1)
    (line,) = watched.progress.stalled()
    assert line.startswith("partition 1: 100 records wait, no progress for 75 s")
    assert watched.progress.health()[0] == [line]
    await watched.look(0)  # it goes to another worker
    assert watched.progress.stalled() == []


async def test_a_partition_without_records_waiting_never_stalls(watched: Watched) -> None:
    watched.done(0, 99)
    watched.broker.commits = {0: 100, 1: 100}
    await watched.bench.windows.add("documents", 0, [], 99)
    await watched.bench.windows.add("documents", 1, [], 99)
    for _ in range(5):
        watched.now_s += 59
        await watched.look(0, 1)
        assert watched.progress.stalled() == []
    watched.broker.ends[0] = 101  # the time counts from when the record came
    await watched.look(0, 1)
    assert watched.progress.stalled() == []


async def test_an_event_loop_that_does_not_look_any_more_is_a_stall(watched: Watched) -> None:
    watched.now_s += 61
    (line,) = watched.progress.stalled()
    assert "61 s" in line


async def test_idle_is_noted_only_for_partitions_with_nothing_waiting(
    watched: Watched, valkey_server: LocalValkey
) -> None:
    watched.broker.ends = {0: 0, 1: 100}
    await watched.look(0, 1)
    client: Redis = Redis.from_url(valkey_server.url)
    assert await client.hexists("nq:{documents-0}:progress", "idle_at_ms")  # type: ignore[misc]
    assert not await client.hexists("nq:{documents-1}:progress", "idle_at_ms")  # type: ignore[misc]
    await client.aclose()


async def test_what_redis_lost_is_asked_back_though_no_record_comes(watched: Watched, record: Any) -> None:
    await watched.bench.path.run([record(n) for n in range(100)])
    watched.broker.commits[0] = 100
    await watched.look(0)
    assert watched.bench.restored == []
    whole = watched.bench.counts()
    await watched.bench.windows._redis.flushall()
    await watched.look(0)
    assert watched.bench.restored == [(0, 0, 99)]
    assert watched.bench.counts() == whole


async def test_the_note_of_a_rebuild_that_was_cut_short_is_taken_away(
    watched: Watched, record: Any, valkey_server: LocalValkey
) -> None:
    await watched.bench.path.run([record(n) for n in range(100)])
    await watched.bench.windows.rebuilding("documents", 0, True)  # and the worker was killed
    watched.broker.commits[0] = 100
    await watched.look(0)
    client: Redis = Redis.from_url(valkey_server.url)
    assert not await client.hexists("nq:{documents-0}:progress", "rebuilding")  # type: ignore[misc]
    await client.aclose()
