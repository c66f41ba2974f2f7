"""The message path: from records to windows, `scored` and dead letters, whatever goes wrong on the way."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.exceptions import ConnectionError as RedisConnectionError

from deploy.local.servers import LocalValkey
from model.errors import DeviceError
from stream.batch import ScoredBatch
from stream.record import Record


async def test_good_records_are_counted_and_scored_bad_ones_are_dead_with_their_reason(bench: Any, record: Any) -> None:
    bad = [record(2, b"no JSON"), record(4, None), record(5, b'{"id":1}'), record(6, b"")]
    records = [record(0), record(1), bad[0], record(3), *bad[1:], record(7), record(0, partition=1)]
    await bench.path.run(records)
    assert [item.offset for item in bench.scored(0)] == [0, 1, 3, 7]
    assert [item.offset for item in bench.scored(1)] == [0]
    assert bench.counts() == bench.fold()
    assert sum(n for (series, _, _), n in bench.counts().items() if series == "market") == 5
    letters = bench.dead()
    assert [(letter.topic, letter.partition, letter.offset) for letter in letters] == [
        ("documents", 0, offset) for offset in (2, 4, 5, 6)
    ]
    assert [letter.value for letter in letters] == [b"no JSON", None, b'{"id":1}', b""]
    assert "no value" in letters[1].reason
    assert "`$.id`" in letters[2].reason
    assert (bench.value("records_total", outcome="scored"), bench.value("records_total", outcome="dead")) == (5, 4)


async def test_only_bad_records_still_move_the_offset(bench: Any, record: Any) -> None:
    await bench.path.run([record(0, b"x"), record(1, b"y")])
    assert await bench.windows.offset("documents", 0) == 1
    assert len(bench.dead()) == 2


async def test_what_was_seen_in_the_future_is_dead(bench: Any, record: Any, plain_document: dict[str, str]) -> None:
    future = json.dumps(plain_document | {"seen_at": "9999-12-31T23:59:59-23:59"}).encode()
    await bench.path.run([record(0, future), record(1)])
    (letter,) = bench.dead()
    assert "future" in letter.reason
    assert [item.offset for item in bench.scored()] == [1]


async def test_a_batch_that_comes_again_changes_nothing(bench: Any, record: Any) -> None:
    batch = [record(n) for n in range(20)]
    await bench.path.run(batch)
    before = bench.counts()
    await bench.path.run(batch)
    await bench.path.run(batch[5:] + [record(n) for n in range(20, 25)])
    assert bench.counts() == bench.fold() != before
    assert bench.value("windows_total", outcome="repeats") == 20 + 15


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), steps=st.integers(1, 12))
async def test_any_redelivery_that_a_rebalance_can_bring_leaves_windows_equal_to_the_fold(
    bench: Any, record: Any, seed: int, steps: int
) -> None:
    """Batches go on, go back, and (a partition came back to its worker) hold later records before earlier ones."""
    chance = random.Random(seed)
    await bench.windows._redis.flushall()
    bench.kafka.records.clear()
    reached = 0
    for _ in range(steps):
        start = chance.randint(0, reached)
        offsets = list(range(start, start + chance.randint(1, 30)))
        if chance.random() < 0.4:
            back = chance.randint(0, start)
            offsets += range(back, chance.randint(back, offsets[-1]) + 1)
        batch = [record(n, b"bad" if n % 11 == 3 else b"\0", id=f"id-{n // 2}", story=f"s-{n // 3}") for n in offsets]
        await bench.path.run(batch)
        reached = max(reached, max(offsets) + 1)
        assert await bench.windows.offset("documents", 0) == reached - 1
    assert bench.counts() == bench.fold()
    assert {item.offset for item in bench.scored()} == {n for n in range(reached) if n % 11 != 3}
    assert {letter.offset for letter in bench.dead()} == {n for n in range(reached) if n % 11 == 3}
    assert bench.restored == []


async def test_a_text_that_the_model_cannot_take_is_dead_and_the_others_are_scored(bench: Any, record: Any) -> None:
    poison, nan = record(1, title="POISON"), record(2, title="NAN of it")
    await bench.path.run([record(0), poison, nan, record(3)])
    assert [item.offset for item in bench.scored()] == [0, 3]
    assert [(letter.offset, letter.value) for letter in bench.dead()] == [(1, poison.value), (2, nan.value)]
    assert all("the model failed on this text" in letter.reason for letter in bench.dead())
    assert bench.counts() == bench.fold()


@pytest.mark.parametrize(
    ("way", "value", "error"),
    [
        ("broken", True, ValueError),
        ("no_numbers", True, ValueError),
        ("topic_labels", (), IndexError),
        ("failures", [DeviceError("full"), DeviceError("full"), None, DeviceError("full")], DeviceError),  # None: probe
    ],
)
async def test_a_model_that_fails_on_everything_ends_the_worker_before_anything_is_written(
    bench: Any, record: Any, way: str, value: Any, error: type[Exception]
) -> None:
    setattr(bench.scorer, way, value)
    with pytest.raises(error):
        await bench.path.run([record(0), record(1, b"bad")])
    assert bench.kafka.records == {}
    assert bench.counts() == {}
    assert await bench.windows.offset("documents", 0) is None


async def test_texts_that_failed_while_the_device_did_are_scored_in_their_order(bench: Any, record: Any) -> None:
    bench.scorer.failures = [RuntimeError("no memory")] * 3  # the batch, and the first two texts alone
    (batch,) = await bench.path.score([record(0), record(1), record(2), record(3, title="POISON")])
    assert [item.offset for item in batch.items] == [0, 1, 2]
    assert [letter.offset for letter, _ in batch.dead] == [3]


async def test_failed_publishing_is_tried_again_until_all_is_written(bench: Any, record: Any) -> None:
    bench.kafka.failures = 3
    await bench.path.run([record(n, b"bad" if n == 4 else b"\0") for n in range(10)])
    assert [item.offset for item in bench.scored()] == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    assert {letter.offset for letter in bench.dead()} == {4}
    assert bench.counts() == bench.fold()
    assert bench.value("retries_total", stage="publish") >= 1


async def test_a_redis_that_fails_and_comes_back_costs_nothing(
    bench: Any, record: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    add, failures = bench.windows.add, iter([True, True, False])

    async def failing(*args: Any, **kwargs: Any) -> Any:
        added = await add(*args, **kwargs)  # it was done, but the answer is lost
        if next(failures, False):
            raise RedisConnectionError("connection reset")
        return added

    monkeypatch.setattr(bench.windows, "add", failing)
    await bench.path.run([record(n) for n in range(10)])
    assert bench.counts() == bench.fold()
    assert len(bench.scored()) == 10
    assert bench.value("retries_total", stage="windows") == 2


async def test_nothing_is_published_before_the_windows_have_it(
    bench: Any, record: Any, valkey_server: LocalValkey
) -> None:
    valkey_server.stop()
    try:
        running = asyncio.create_task(bench.path.run([record(n) for n in range(10)]))
        while bench.value("retries_total", stage="windows") < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert bench.kafka.records == {}
        assert not running.done()
    finally:
        valkey_server.start()
    await running
    assert bench.counts() == bench.fold()
    assert len(bench.scored()) == 10


async def test_what_redis_lost_is_asked_back_before_the_next_batch_counts(bench: Any, record: Any) -> None:
    await bench.path.run([record(n) for n in range(10)])
    await bench.windows._redis.flushall()
    await bench.path.run([record(n) for n in range(10, 15)])
    assert bench.restored == [(0, 0, 9)]
    assert bench.counts() == bench.fold()
    assert len(bench.scored()) == 15


async def test_a_hole_in_the_offsets_is_filled_before_what_follows_counts(bench: Any, record: Any) -> None:
    await bench.path.run([record(n) for n in (0, 1, 2, 5, 6, 9)])
    assert bench.restored == [(0, 3, 4), (0, 7, 8)]


async def test_a_record_without_a_time_does_not_upset_the_metrics(bench: Any, record: Callable[..., Record]) -> None:
    batches: list[ScoredBatch] = await bench.path.score([record(0)._replace(timestamp_ms=-1)])
    await bench.path.write(batches)
    assert len(bench.scored()) == 1
