"""The read side of the windows: progress of the partitions, sealing, and buckets of counts and items."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from importlib.resources import files
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from alerts.windows import Count, WindowItem, prefix

if TYPE_CHECKING:
    from redis import Redis

Places = Mapping[int, Collection[int]]
"""For arrival minutes, the partitions that hold counts of them."""
_item = msgspec.json.Decoder(WindowItem)


class Progress(msgspec.Struct, frozen=True):
    """Where one partition stands; times are Unix milliseconds. `sealed` is a minute (Unix time // 60)."""

    offset: int | None = None
    clock_ms: int | None = None
    idle_at_ms: int | None = None
    sealed: int | None = None
    rebuilding: bool = False


class Sealed(Protocol):
    """What alerting reads of the windows; `Buckets` says what each method does."""

    def progress(self) -> list[Progress]:
        """See `Buckets.progress`."""

    def seal(self, minute: int) -> None:
        """See `Buckets.seal`."""

    def counts(self, minutes: Sequence[int], places: Places | None = None) -> list[dict[Count, int]]:
        """See `Buckets.counts`."""

    def items(self, minutes: Sequence[int]) -> list[WindowItem]:
        """See `Buckets.items`."""

    def listed(self, minutes: Sequence[int], places: Places | None = None) -> list[list[WindowItem]]:
        """See `Buckets.listed`."""

    def places(self) -> dict[int, list[int]]:
        """See `Buckets.places`."""


class Buckets:
    """Reads what the workers wrote. All calls are pipelined over the partitions of `topic`.

    A sealed bucket is complete. Every method raises `redis.RedisError` when the server cannot answer.
    """

    def __init__(self, redis: Redis, topic: str, partitions: int) -> None:
        self._redis = redis
        self._prefixes = [prefix(topic, partition) for partition in range(partitions)]
        self._seal = redis.register_script(files("alerts").joinpath("seal.lua").read_text("utf-8"))

    def progress(self) -> list[Progress]:
        """Return where each partition stands."""
        pipe = self._redis.pipeline(transaction=False)
        for start in self._prefixes:
            pipe.hmget(f"{start}progress", ["offset", "clock_ms", "idle_at_ms", "rebuilding"])
            pipe.get(f"{start}sealed")
        answers = pipe.execute()
        found = []
        for (offset, clock_ms, idle_at_ms, rebuilding), sealed in zip(answers[::2], answers[1::2], strict=True):
            under_way = _text(rebuilding) not in ("", "0")
            found.append(Progress(_int(offset), _int(clock_ms), _int(idle_at_ms), _int(sealed), under_way))
        return found

    def seal(self, minute: int) -> None:
        """Close all buckets up to `minute`: later items go to open ones. Calling it again changes nothing."""
        pipe = self._redis.pipeline(transaction=False)
        for start in self._prefixes:
            self._seal(keys=[f"{start}sealed"], args=[minute], client=pipe)
        pipe.execute()

    def counts(self, minutes: Sequence[int], places: Places | None = None) -> list[dict[Count, int]]:
        """Return the counts of each arrival minute, added up over the partitions; `places`, where known, saves time."""
        keys = [[f"{start}counts:{minute}" for start in self._starts(minute, places)] for minute in minutes]
        pipe = self._redis.pipeline(transaction=False)
        for key in chain.from_iterable(keys):
            pipe.hgetall(key)
        answers = iter(pipe.execute())
        return [_sum(islice(answers, len(each))) for each in keys]

    def items(self, minutes: Sequence[int]) -> list[WindowItem]:
        """Return the negative items listed in these arrival minutes, in the order of the minutes."""
        return [item for listed in self.listed(minutes) for item in listed]

    def listed(self, minutes: Sequence[int], places: Places | None = None) -> list[list[WindowItem]]:
        """Return the negative items listed in each arrival minute; `places`, where known, saves time."""
        keys = [[f"{start}items:{minute}" for start in self._starts(minute, places)] for minute in minutes]
        pipe = self._redis.pipeline(transaction=False)
        for key in chain.from_iterable(keys):
            pipe.lrange(key, 0, -1)
        answers = iter(pipe.execute())
        return [[_item.decode(raw) for found in islice(answers, len(each)) for raw in found] for each in keys]

    def places(self) -> dict[int, list[int]]:
        """Return, for each arrival minute that holds counts, in order, the partitions that hold them.

        Scans the keys: for starts and long gaps.
        """
        found: dict[int, list[int]] = {}
        for partition, start in enumerate(self._prefixes):
            keys = self._redis.scan_iter(match=f"{_escaped(start)}counts:*", count=1_000)
            for key in set(keys):  # a scan may give one twice
                found.setdefault(int(_text(key).rpartition(":")[2]), []).append(partition)
        return dict(sorted(found.items()))

    def _starts(self, minute: int, places: Places | None) -> list[str]:
        return self._prefixes if places is None else [self._prefixes[at] for at in places.get(minute, ())]

    def total(self) -> dict[Count, int]:
        """Return everything that the windows hold, over all arrival minutes: what `windows.fold` is compared with."""
        counts: dict[Count, int] = {}
        minutes = list(self.places())
        for at in range(0, len(minutes), 500):
            for bucket in self.counts(minutes[at : at + 500]):
                for key, count in bucket.items():
                    counts[key] = counts.get(key, 0) + count
        return counts


def _sum(hashes: Iterable[dict[Any, Any]]) -> dict[Count, int]:
    counts: dict[Count, int] = {}
    for fields in hashes:
        for field, value in fields.items():
            series, minute, sentiment = _text(field).split("\t")
            key = (series, int(minute), sentiment)
            counts[key] = counts.get(key, 0) + int(value)
    return counts


def _int(value: Any) -> int | None:
    return None if value is None else int(value)


def _text(value: Any) -> str:
    return "" if value is None else value.decode() if isinstance(value, bytes) else str(value)


def _escaped(start: str) -> str:
    return "".join(f"\\{char}" if char in "*?[]\\^" else char for char in start)
