"""What the desk keeps of what it has read, so that it is read once however many look."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from alerts.now import Now, Row, Table
from alerts.records import UNREADABLE, Moment, name_of
from alerts.store import RECENT
from alerts.stored import keys_of

if TYPE_CHECKING:
    from redis import Redis

_LIFE_S = 5.0
_CHUNK = 500


class KeptTable(NamedTuple):
    """A table of now, and its rows by series. Nobody may change either."""

    table: Table
    rows: Mapping[str, Row]


class Tables:
    """The table of now, decoded once for each that alerting writes, and again after 5 seconds."""

    def __init__(self, now: Now, clock: Callable[[], float] = time.monotonic) -> None:
        self._now, self._clock = now, clock
        self._lock = threading.Lock()
        self._held: tuple[bytes, float, KeptTable] | None = None

    def read(self) -> KeptTable | None:
        """Return the table, None when alerting has written none for a day.

        Raises:
            NowError: it cannot be read.
        """
        mark = self._now.mark()  # before the table: one that comes between is read again by who asks next
        with self._lock:
            if self._held is not None and self._held[0] == mark and self._clock() - self._held[1] < _LIFE_S:
                return self._held[2]
            table = self._now.read()
            if table is None:
                return None
            held = KeptTable(table, {row.series: row for row in table.rows})
            self._held = None if mark is None else (mark, self._clock(), held)
            return held


class _On(msgspec.Struct, frozen=True):
    """What an alert is on, of all that is stored of it."""

    series: str
    started_at: Moment
    began_on: str = ""


_on = msgspec.json.Decoder(_On)


class BySeries:
    """Which alerts of the last 90 days are on a series or began on it. Of the alerts it reads those that changed."""

    def __init__(self, redis: Redis, clock: Callable[[], float] = time.monotonic) -> None:
        self._redis, self._clock = redis, clock
        self._lock = threading.Lock()
        self._at: tuple[Hashable, float] | None = None
        self._known: dict[str, tuple[float, frozenset[str]]] = {}
        self._ids: dict[str, dict[str, datetime]] = {}

    def of(self, series: str, standing: Hashable) -> list[str]:
        """Return the ids of a series' alerts, the newest first, as they are at a standing of the desk.

        Raises:
            redis.RedisError: the server cannot answer.
        """
        with self._lock:
            if self._at is None or self._at[0] != standing or self._clock() - self._at[1] >= _LIFE_S:
                self._renew()
                self._at = standing, self._clock()
            found = self._ids.get(series, {})
            return sorted(found, key=lambda each: (found[each], each), reverse=True)

    def _renew(self) -> None:
        raws: Any = self._redis.zrange(RECENT, 0, -1, withscores=True)
        changed = {name_of(raw): float(score) for raw, score in raws}
        for gone in self._known.keys() - changed.keys():
            self._forget(gone)
        # By the time of the change and not by its order: clocks of those who write differ.
        wanted = [each for each, at_s in changed.items() if self._known.get(each, (None,))[0] != at_s]
        for at in range(0, len(wanted), _CHUNK):
            ids = wanted[at : at + _CHUNK]
            stored: Any = self._redis.mget([keys_of(each)[0] for each in ids])
            for each, raw in zip(ids, stored, strict=True):
                self._forget(each)
                self._learn(each, changed[each], raw)

    def _learn(self, alert: str, at_s: float, raw: Any) -> None:
        try:
            found = None if raw is None else _on.decode(raw)
        except UNREADABLE:  # on no series; whoever reads it as an alert says so
            found = None
        if found is None:
            self._known[alert] = at_s, frozenset()
            return
        series = frozenset({found.series, found.began_on} - {""})
        self._known[alert] = at_s, series
        for each in series:
            self._ids.setdefault(each, {})[alert] = found.started_at

    def _forget(self, alert: str) -> None:
        for series in self._known.pop(alert, (0.0, frozenset[str]()))[1]:
            del self._ids[series][alert]
            if not self._ids[series]:
                del self._ids[series]
