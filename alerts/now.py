"""How all series stand now, and the course of each open alert: written by alerting each minute, shown by the desk.

`nq:{alerts}:now` holds one table, the most unusual series first; `nq:{alerts}:course:<alert>` what the detector saw of
an alert's series (`alerts.course`), a field a bin, so that writing it again changes nothing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from redis import WatchError

from alerts.alert import Alert
from alerts.columns import Ints
from alerts.course import Bin, course, decode_bin, encode_bin, expected, lately, starts_of
from alerts.judgement import State
from alerts.negbin import central_intervals
from alerts.records import UNREADABLE
from alerts.rolling import NEGATIVES, OTHERS, WINDOWS_MIN
from alerts.series import kind, label
from alerts.store import FENCE, FencedError
from alerts.surge import Detector

if TYPE_CHECKING:
    from redis import Redis

log = logging.getLogger(__name__)

_TABLE, _MINUTE = "nq:{alerts}:now", "nq:{alerts}:now:minute"
_ROWS = 1_000
_LIFE_S = 90 * 86_400
_TABLE_LIFE_S = 86_400
_BUSY_ITEMS = 30  # an hour with fewer items is drawn as part of its day
_HOUR_WINDOW = WINDOWS_MIN.index(60)
_KEPT_MIN = {5: 180, 15: 1_440, 60: 30 * 1_440}  # bins of this length are written so long after an alert began


class Row(msgspec.Struct, frozen=True):
    """One series. `window_min` is the window that shows most; `observed` to `share` are of it, as in `Figures`.

    `items_min` are items a minute in the last hour, `usual_min` those that are usual at this hour. `negatives` and
    `totals` are counts in bins of `bin_min` minutes, the last one under way; `due` is how many negatives were expected
    in each, `lows` and `highs` hold the middle 95 % of that (empty in tables of versions that did not tell it).
    """

    series: str
    name: str
    kind: str
    state: State
    window_min: int
    observed: int
    others: int
    expected: float
    low: int
    high: int
    z: float
    strength: float
    share: float
    items_min: float
    usual_min: float
    bin_min: int
    negatives: list[int]
    totals: list[int]
    due: list[float] = []
    lows: list[int] = []
    highs: list[int] = []


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """All rows of one minute (Unix time // 60). `series` are tracked; `rows` hold the most unusual and all topics."""

    minute: int
    written_at: float
    series: int
    warming_up: str
    missing: int
    rows: list[Row]


_table = msgspec.msgpack.Decoder(Table)


class NowError(Exception):
    """What stands in Redis of how things are cannot be read: another version wrote it, or another hand."""


class Now:
    """Writes and reads both. Every method raises `redis.RedisError` when the server cannot answer.

    `token` gives the leader's token, as for `AlertStore`.
    """

    def __init__(self, redis: Redis, token: Callable[[], str] = str) -> None:
        self._redis, self._token = redis, token
        self._written = -1
        self._followed: set[tuple[str, str]] = set()

    def write(self, detector: Detector, alerts: Iterable[Alert]) -> None:
        """Write how all stands at the detector's minute, and what is new of the open alerts; once a minute.

        Raises:
            FencedError: another process leads; nothing was written.
        """
        if detector.minute <= self._written or not detector.names:
            return
        with self._redis.pipeline(transaction=True) as pipe:
            if token := self._token():
                pipe.watch(FENCE)  # what follows is not done when it changes meanwhile
                if pipe.get(FENCE) != token.encode():
                    raise FencedError("another process leads")
                pipe.multi()
            pipe.set(_TABLE, msgspec.msgpack.encode(table(detector, time.time())), ex=_TABLE_LIFE_S)
            pipe.set(_MINUTE, detector.minute, ex=_TABLE_LIFE_S)
            followed = set()
            for alert in alerts:
                if not detector.tracks(alert.series):
                    continue
                key = f"nq:{{alerts}}:course:{alert.id}"
                began = int(alert.started_at.timestamp() // 60)
                bins = course(detector, alert.series, latest=2 if (alert.id, alert.series) in self._followed else 0)
                fields: dict[Any, Any] = {
                    f"{each.span_min}:{each.start}": encode_bin(each)
                    for each in bins
                    if each.start <= began + _KEPT_MIN[each.span_min]
                }
                if fields:
                    pipe.hset(key, mapping=fields)
                    pipe.expire(key, _LIFE_S)
                followed.add((alert.id, alert.series))
            try:
                pipe.execute()
            except WatchError as exc:
                raise FencedError("another process leads") from exc
        self._written, self._followed = detector.minute, followed

    def minute(self) -> int | None:
        """Return the minute of the table, None when there is none.

        Raises:
            NowError: it is no minute.
        """
        raw = self.mark()
        try:
            return None if raw is None else int(raw)
        except ValueError as exc:
            raise NowError(f"what stands in {_MINUTE} is no minute: {raw!r:.60}") from exc

    def mark(self) -> bytes | None:
        """Return what changes with the table, None when there is none."""
        raw: Any = self._redis.get(_MINUTE)
        return None if raw is None else bytes(raw)

    def read(self) -> Table | None:
        """Return the table, None when alerting has written none for a day.

        Raises:
            NowError: it cannot be read.
        """
        raw: Any = self._redis.get(_TABLE)
        try:
            return None if raw is None else _table.decode(raw)
        except UNREADABLE as exc:
            raise NowError(f"how series stand cannot be read: {exc}") from exc

    def course(self, alert: str) -> list[Bin]:
        """Return the bins of an alert's series, in order of length and time; themes have none."""
        raws: Any = self._redis.hvals(f"nq:{{alerts}}:course:{alert}")
        found = []
        for raw in raws:
            try:
                found.append(decode_bin(raw))
            except UNREADABLE as exc:
                log.error("a bin of the course of alert %s cannot be read and is left out (%s)", alert, exc)
        return sorted(found, key=lambda each: (each.span_min, each.start))


def table(detector: Detector, now_s: float, rows: int = _ROWS) -> Table:
    """Return how the series stand: the `rows` most unusual, the market and all topics, the most unusual first."""
    names, panel = detector.names, detector.panel
    every = np.arange(len(names))
    strength = panel.assess(every, np.inf, 0).strength
    shown = [int(column) for column in np.argsort(-strength, kind="stable")[:rows]]
    kept = set(shown)
    shown += [c for c, name in enumerate(names) if c not in kept and kind(name) in ("market", "topic")]
    columns = np.array(shown, dtype=np.int64)
    cold, missing = detector.warming_up(), panel.volume.missing()
    seen = detector.stand([names[column] for column in shown])
    best, at = seen.best, np.arange(len(columns))
    mean, size = seen.mean[best, at], seen.size[best, at]
    low, high = central_intervals(mean, size)
    odds = mean / (seen.others[best, at] + 0.5)
    usual = panel.volume.due()[columns] / 60
    hour = panel.rolling.sums[[NEGATIVES, OTHERS], _HOUR_WINDOW][:, columns].sum(axis=0)
    busy = hour >= _BUSY_ITEMS
    fine = iter(_recent(detector, panel.rolling.minutes, 1, columns[busy], 2))
    coarse = iter(_recent(detector, panel.rolling.hours, 60, columns[~busy], 60))
    found = []
    for n, column in enumerate(shown):
        series = names[column]
        state: State
        if cold:
            state = "warming up"
        elif missing[column]:
            state = "no data"
        elif panel.episodes.opened[column]:
            state = "firing"
        else:
            state = "pending" if seen.strength[n] >= detector.threshold_z(series) else "normal"
        found.append(
            Row(
                series=series,
                name=label(series),
                kind=kind(series),
                state=state,
                window_min=WINDOWS_MIN[best[n]],
                observed=int(seen.observed[best[n], n]),
                others=int(seen.others[best[n], n]),
                expected=round(float(mean[n]), 2),
                low=int(low[n]),
                high=int(high[n]),
                z=round(float(seen.z[best[n], n]), 2),
                strength=round(float(max(seen.strength[n], -9.0)), 2),
                share=round(float(odds[n] / (1 + odds[n])), 4),
                items_min=round(float(hour[n]) / 60, 2),
                usual_min=round(float(usual[n]), 2),
                **next(fine if busy[n] else coarse),
            )
        )
    rank = {"firing": 0, "pending": 1}
    found.sort(key=lambda row: (rank.get(row.state, 2), -row.strength, -row.items_min, row.series))
    return Table(
        minute=detector.minute,
        written_at=now_s,
        series=len(names),
        warming_up=cold,
        missing=int(missing.sum()),
        rows=found,
    )


def _recent(detector: Detector, ring: NDArray[Any], step: int, columns: Ints, span: int) -> list[dict[str, Any]]:
    """Return the last fields of the rows of some series: their counts in bins, and what was expected in each."""
    counts = lately(ring, detector.minute // step, columns, span // step)
    starts = starts_of(detector.minute, span, counts.shape[1])
    mean, low, high = expected(detector, span, starts, columns, counts[OTHERS])
    return [
        {
            "bin_min": span,
            "negatives": counts[NEGATIVES, :, n].tolist(),
            "totals": counts[: OTHERS + 1, :, n].sum(axis=0).tolist(),
            "due": mean[:, n].round(2).tolist(),
            "lows": low[:, n].tolist(),
            "highs": high[:, n].tolist(),
        }
        for n in range(len(columns))
    ]
