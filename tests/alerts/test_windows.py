"""The windows hold exactly what the fold says, however the items come."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import redis
import redis.asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alerts.buckets import Buckets
from alerts.series import SeriesError
from alerts.settings import WindowsSettings
from alerts.windows import Added, WindowItem, Windows, fold

TOPIC = "documents"
NOON = 1_700_049_600.0  # 2023-11-15 12:00 UTC
Make = Callable[..., WindowItem]


def _run(client: redis.Redis, calls: Callable[[Windows], Any], settings: WindowsSettings | None = None) -> Any:
    async def main() -> Any:
        pool = client.connection_pool.connection_kwargs
        async with redis.asyncio.Redis(host=pool["host"], port=pool["port"]) as asynchronous:
            return await calls(Windows(asynchronous, settings))

    return asyncio.run(main())


def _add(client: redis.Redis, *batches: Sequence[WindowItem], partition: int = 0, **limits: int) -> list[Added]:
    async def calls(windows: Windows) -> list[Added]:
        return [await windows.add(TOPIC, partition, batch, batch[-1].offset) for batch in batches]

    return _run(client, calls, WindowsSettings(**limits))


_steps = st.tuples(
    st.integers(0, 12),  # id
    st.integers(0, 8),  # story
    st.integers(0, 200_000),  # seconds before the item is seen
    st.sampled_from([-30, 0, 60, 899, 900, 901, 7_200, 21_600, 21_601, 400_000]),  # age when seen
    st.sampled_from(["negative", "neutral", "positive"]),
    st.sampled_from(["Earnings", "Börse"]),
    st.sampled_from([(), ("AAPL",), ("AAPL", "BRK.B"), ("AAPL", "AAPL")]),
    st.integers(0, 2),  # partition
)


@given(
    steps=st.lists(_steps, max_size=40),
    cuts=st.lists(st.integers(1, 6), min_size=40, max_size=40),
    again=st.lists(st.integers(0, 2), min_size=40, max_size=40),
    back=st.lists(st.integers(0, 5), min_size=40, max_size=40),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_batches_repeats_and_interleaving_give_the_fold(
    both: redis.Redis, item: Make, steps: list[Any], cuts: list[int], again: list[int], back: list[int]
) -> None:
    both.flushall()
    records: list[tuple[int, WindowItem]] = []
    offsets = [0, 0, 0]
    for key, story, wait_s, age_s, sentiment, topic, companies, partition in steps:
        seen_at = NOON + (wait_s * 7) % 400_000
        made = item(
            offsets[partition],
            id=f"id-{key}",
            story=f"story-{story}",
            seen_at=seen_at,
            published_at=seen_at - age_s,
            sentiment=sentiment,
            topic=topic,
            companies=companies,
        )
        records.append((partition, made))
        offsets[partition] += 1

    async def calls(windows: Windows) -> None:
        queues = [[made for where, made in records if where == partition] for partition in range(3)]
        done = [0, 0, 0]
        turn = 0
        while any(done[p] < len(queues[p]) for p in range(3)):
            partition = turn % 3
            size, repeats, overlap = cuts[turn % 40], again[turn % 40], back[turn % 40]
            begin = max(0, done[partition] - overlap)  # a batch that comes again may be cut in another way
            batch = queues[partition][begin : done[partition] + size]
            for _ in range(1 + repeats):
                if batch:
                    added = await windows.add(TOPIC, partition, batch, batch[-1].offset)
                    assert sum((added.counted, added.repeats, added.copies, added.old, added.late)) == len(batch)
            done[partition] += size
            turn += 1

    _run(both, calls)
    assert Buckets(both, TOPIC, 3).total() == fold(records)


def test_outcomes_and_series(both: redis.Redis, item: Make) -> None:
    batch = [
        item(0, id="a", story="s"),
        item(1, id="a", story="s"),  # the same item from another source
        item(2, id="b", story="s", sentiment="positive"),  # a reprint
        item(3, id="c", story="old", published_at=1_700_000_000.0 - 30_000),
        item(4, id="d", story="old"),  # a reprint of old news
    ]
    assert _add(both, batch) == [Added(counted=1, repeats=1, copies=2, old=1)]
    minute = 1_700_000_000 // 60
    names = ["market", "topic=Earnings", "company=AAPL", "company=AAPL;topic=Earnings"]
    expected = {(name, minute, kind): n for name in names for kind, n in (("negative", 1), ("copy", 2))}
    assert Buckets(both, TOPIC, 1).counts([minute]) == [expected]


def test_a_sealed_minute_stays_as_it_was_read(both: redis.Redis, item: Make) -> None:
    minute = int(NOON) // 60
    buckets = Buckets(both, TOPIC, 2)
    _add(both, [item(0, seen_at=NOON)])
    buckets.seal(minute + 2)
    buckets.seal(minute)  # an engine that lags does not open it again
    before = buckets.counts([minute])
    assert _add(both, [item(1, seen_at=NOON + 1)]) == [Added(counted=1)]
    assert buckets.counts([minute]) == before
    assert buckets.counts([minute + 3])[0]["market", minute, "negative"] == 1  # known later, counts in its minute
    assert [listed.offset for listed in buckets.items([minute + 3])] == [1]
    assert buckets.progress()[0].sealed == minute + 2


def test_what_comes_far_too_late_counts_nowhere(both: redis.Redis, item: Make) -> None:
    Buckets(both, TOPIC, 1).seal(int(NOON) // 60 + 400)
    assert _add(both, [item(0, seen_at=NOON)]) == [Added(late=1)]
    assert Buckets(both, TOPIC, 1).total() == {}


def test_an_item_from_the_future_does_not_move_the_clock(both: redis.Redis, item: Make) -> None:
    future = time.time() + 3_000
    _add(both, [item(0, seen_at=NOON), item(1, seen_at=future), item(2, seen_at=NOON + 60)])
    assert Buckets(both, TOPIC, 1).progress()[0].clock_ms == int(NOON + 60) * 1000
    assert Buckets(both, TOPIC, 1).counts([int(future) // 60])[0]["market", int(future) // 60, "negative"] == 1


def test_only_new_negative_stories_are_listed_up_to_the_bound(both: redis.Redis, item: Make) -> None:
    batch = [item(n, seen_at=NOON, sentiment="neutral" if n % 2 else "negative") for n in range(10)]
    batch.append(item(10, seen_at=NOON, story="story-0"))
    assert _add(both, batch, items_a_minute=3) == [Added(counted=10, copies=1, unlisted=2)]
    assert _add(both, [item(11, seen_at=NOON)], items_a_minute=3) == [Added(counted=1, unlisted=1)]
    assert Buckets(both, TOPIC, 1).items([int(NOON) // 60]) == [batch[0], batch[2], batch[4]]


def test_long_titles_are_cut_where_they_are_listed(store: redis.Redis, item: Make) -> None:
    _add(store, [item(0, seen_at=NOON, title="x" * 2_000, url="https://example.org/" + "y" * 2_000)])
    (listed,) = Buckets(store, TOPIC, 1).items([int(NOON) // 60])
    assert (len(listed.title), listed.url) == (400, "")


def test_the_offset_moves_with_a_batch_that_holds_no_item(both: redis.Redis) -> None:
    async def calls(windows: Windows) -> list[int | None]:
        before = await windows.offset(TOPIC, 0)
        await windows.add(TOPIC, 0, [], 7)
        await windows.add(TOPIC, 0, [], 3)
        await windows.idle(TOPIC, 0, 1_700_000_000_000)
        return [before, await windows.offset(TOPIC, 0)]

    assert _run(both, calls) == [None, 7]
    progress = Buckets(both, TOPIC, 1).progress()[0]
    assert (progress.offset, progress.clock_ms, progress.idle_at_ms) == (7, None, 1_700_000_000_000)


def test_a_refused_batch_changes_nothing(both: redis.Redis, item: Make) -> None:
    minute = int(NOON) // 60
    both.set(f"nq:{{{TOPIC}-0}}:counts:{minute + 1}", "not a hash")
    before = sorted(both.scan_iter())
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        _add(both, [item(0, seen_at=NOON), item(1, seen_at=NOON + 60)])
    with pytest.raises(SeriesError):
        _add(both, [item(0, seen_at=NOON), item(1, seen_at=NOON, topic="a;b")])
    assert sorted(both.scan_iter()) == before


def test_the_script_comes_back_after_the_server_forgot_it(both: redis.Redis, item: Make) -> None:
    async def calls(windows: Windows) -> Added:
        await windows.add(TOPIC, 0, [item(0)], 0)
        both.script_flush()
        return await windows.add(TOPIC, 0, [item(1)], 1)

    assert _run(both, calls) == Added(counted=1)


def test_every_bucket_expires_and_carries_the_hash_tag(both: redis.Redis, item: Make) -> None:
    _add(both, [item(0, seen_at=NOON), item(1, seen_at=NOON + 86_400)], partition=3)
    keys = {key.decode() for key in both.scan_iter()}
    assert all(key.startswith(f"nq:{{{TOPIC}-3}}:") for key in keys)
    buckets = {key for key in keys if not key.endswith("progress")}
    assert len(buckets) == 8
    assert all(both.ttl(key) > 86_400 for key in buckets)
