"""Counts by the minute in Redis: the keys, the rule that says where an item counts, and the write side.

`windows.lua` applies what depends on shared state; `alerts.buckets` reads. A batch that comes again changes nothing,
because the offset of its partition moves in the same call as its counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import msgspec

from alerts.series import series_of
from alerts.settings import WindowsSettings

if TYPE_CHECKING:
    from redis.asyncio import Redis

NEGATIVE = "negative"
COPY = "copy"
_DAY_S = 86_400
_REMEMBER_S = 2 * _DAY_S

Count = tuple[str, int, str]
"""Series, event minute, sentiment or `COPY`."""


class WindowItem(msgspec.Struct, frozen=True):
    """One scored item, as windows and evidence need it. Times are Unix seconds, `negative` is a probability."""

    offset: int
    id: str
    story: str
    published_at: float
    seen_at: float
    sentiment: str
    negative: float
    topic: str
    companies: tuple[str, ...]
    publisher: str
    source: str
    title: str
    url: str


class Added(msgspec.Struct, frozen=True):
    """What became of the items of one call; the first five add up to their number.

    `repeats` had come before (same offset or same id); `copies` are later items of a story; `old` were too old when
    first seen; `late` came so long after their minute was sealed that they count nowhere; `unlisted` were counted, but
    the list of evidence of their minute was full.
    """

    counted: int = 0
    repeats: int = 0
    copies: int = 0
    old: int = 0
    late: int = 0
    unlisted: int = 0


def prefix(topic: str, partition: int) -> str:
    """Return what the keys of one partition begin with: its hash tag keeps them in one slot of Redis Cluster."""
    return f"nq:{{{topic}-{partition}}}:"


def event_minute(published_at: float, seen_at: float, settings: WindowsSettings) -> int:
    """Return the minute (Unix time // 60) in which an item counts. Times are Unix seconds."""
    published_at = min(published_at, seen_at)
    return int((published_at if seen_at - published_at <= settings.late_after_s else seen_at) // 60)


def is_old(published_at: float, seen_at: float, settings: WindowsSettings) -> bool:
    """Say whether the item was too old to count when it was first seen. Times are Unix seconds."""
    return seen_at - published_at > settings.too_old_s


class GapError(Exception):
    """The windows lack offsets below the batch, since Redis lost what they held; nothing was done.

    `applied` is the last offset that they hold, -1 for none.
    """

    def __init__(self, partition: int, applied: int, first: int) -> None:
        super().__init__(f"the windows of partition {partition} end at offset {applied}, the batch begins at {first}")
        self.applied = applied


class Windows:
    """The write side, for the workers of the stream."""

    def __init__(self, redis: Redis, settings: WindowsSettings | None = None) -> None:
        self._redis = redis
        self._settings = settings or WindowsSettings()
        source = files("alerts").joinpath("windows.lua").read_text("utf-8")
        self._script = redis.register_script(source)  # loads itself again when the server has forgotten it
        self._encoder = msgspec.msgpack.Encoder()
        self._json = msgspec.json.Encoder()

    async def add(
        self, topic: str, partition: int, items: Sequence[WindowItem], position: int, first: int = -1
    ) -> Added:
        """Count the items of one partition and move its offset to `position`, in one call.

        `items` are in offset order; `position` is the last offset of the batch, be it an item's or a dead record's.
        Items at or below the offset that is already stored are left out, so that the call may be repeated. `first` is
        the first offset of the batch, where the caller wants to know of lost ones; -1 does not look.

        Raises:
            GapError: offsets between what the windows hold and `first` are lacking.
            SeriesError: an item's topic or company cannot name a series; nothing was written.
            redis.RedisError: the call failed, or its answer was lost; repeat it.
        """
        keys, payload = self._payload(prefix(topic, partition), items, first, position)
        applied, *outcomes = await self._script(keys=keys, args=[payload])
        if not outcomes:
            raise GapError(partition, applied, first)
        return Added(*outcomes)

    async def idle(self, topic: str, partition: int, now_ms: int) -> None:
        """Note that at `now_ms` (Unix) everything of this partition had been read and counted."""
        answer: Any = self._redis.hset(f"{prefix(topic, partition)}progress", "idle_at_ms", str(now_ms))
        await answer

    async def rebuilding(self, topic: str, partition: int, running: bool) -> None:
        """Note that lost counts of this partition are being folded again; alerting is not ready meanwhile."""
        name = f"{prefix(topic, partition)}progress"
        answer: Any = self._redis.hset(name, "rebuilding", "1") if running else self._redis.hdel(name, "rebuilding")
        await answer

    async def offset(self, topic: str, partition: int) -> int | None:
        """Return the last offset that the windows hold, or None where nothing was counted yet."""
        answer: Any = self._redis.hget(f"{prefix(topic, partition)}progress", "offset")
        value = await answer
        return None if value is None else int(value)

    def _payload(self, start: str, items: Sequence[WindowItem], first: int, position: int) -> tuple[list[str], bytes]:
        settings = self._settings
        rows = []
        days: set[int] = set()
        minutes: set[int] = set()
        for item in items:
            day, minute = int(item.seen_at // _DAY_S), int(item.seen_at // 60)
            days.add(day)
            minutes.add(minute)
            rows.append(
                (
                    item.offset,
                    item.id,
                    item.story,
                    day,
                    event_minute(item.published_at, item.seen_at, settings),
                    minute,
                    int(item.seen_at * 1000),
                    is_old(item.published_at, item.seen_at, settings),
                    item.sentiment,
                    series_of(item.topic, item.companies),
                    self._json.encode(_listed(item)).decode() if item.sentiment == NEGATIVE else "",
                )
            )
        around = sorted({day + step for day in days for step in (-1, 0, 1)})
        arrivals = sorted(minutes)
        keys = [f"{start}progress", f"{start}sealed"]
        keys += [f"{start}{name}:{day}" for day in around for name in ("ids", "stories")]
        keys += [f"{start}{name}:{minute}" for minute in arrivals for name in ("counts", "items")]
        keep_s, evidence_s = settings.keep_days * _DAY_S, settings.evidence_days * _DAY_S
        payload = (first, position, rows, around, arrivals, start, settings.too_old_s, settings.items_a_minute)
        return keys, self._encoder.encode((*payload, keep_s, evidence_s, _REMEMBER_S))


def _listed(item: WindowItem) -> WindowItem:
    """Return the item as it is listed: long texts cut, so that the list has a known size."""
    if len(item.title) <= 400 and len(item.url) <= 1_000:
        return item
    url = item.url if len(item.url) <= 1_000 else ""  # half a link leads nowhere
    title = item.title if len(item.title) <= 400 else item.title[:399] + "…"
    return msgspec.structs.replace(item, title=title, url=url)


def fold(records: Iterable[tuple[int, WindowItem]], settings: WindowsSettings | None = None) -> dict[Count, int]:
    """Return the counts that the windows must hold after these records, by the same rule in plain Python.

    `records` are pairs of partition and item, in offset order within a partition. What was sealed is not known here:
    an item that came `late` or that a sealed minute sent to a later bucket is folded like any other.
    """
    settings = settings or WindowsSettings()
    counts: dict[Count, int] = {}
    applied: dict[int, int] = {}
    ids: set[tuple[int, int, str]] = set()
    stories: set[tuple[int, int, str]] = set()
    for partition, item in records:
        if item.offset <= applied.get(partition, -1):
            continue
        applied[partition] = item.offset
        day = int(item.seen_at // _DAY_S)
        around = (day - 1, day, day + 1)
        repeat = any((partition, near, item.id) in ids for near in around)
        copy = any((partition, near, item.story) in stories for near in around)
        ids.add((partition, day, item.id))
        stories.add((partition, day, item.story))
        if repeat or is_old(item.published_at, item.seen_at, settings):
            continue
        minute = event_minute(item.published_at, item.seen_at, settings)
        for series in series_of(item.topic, item.companies):
            key = (series, minute, COPY if copy else item.sentiment)
            counts[key] = counts.get(key, 0) + 1
    return counts
