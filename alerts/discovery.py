"""Many series at once: how rare an hour's largest strength is, and how rare it must be before an alert opens.

* p-values: the largest strength of a series in a clock's hour, against a table of such hours in which nothing was open
  (`Table`), one for each of three levels of negatives a day: a series that is looked at sixty times an hour reaches
  what one looked at once does not. Strengths are tested as they rise, so p is valid at any moment of the hour.
* false discoveries: online control with a decaying memory (Rebjock, Kurt, Januschowski and Callot, Online false
  discovery rate control for anomaly detection in time series, NeurIPS 2021), with the step-up of Benjamini and Hochberg
  (1995) within the hour: open when p <= q·max(1, R, k)/n. n and R are the tests and the alerts of the past, each
  fading with a half-life; k is how many series of this hour pass at once, a part not beside what contains it.

An hour of a series is one test when the series had enough negatives to be judged; what an open alert is about, or
contains, is neither tested nor learnt from. Time is the arrival minute, so that live and backtest agree to the bit.

What it assumes: hours of quiet series of one level are alike; surges that nobody was told of are few (they make p
larger, never smaller). Hours are not independent: a slow surge is tested again each hour it lasts.
"""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from alerts.columns import Bools, Counts, Floats, Ints
from alerts.settings import DiscoverySettings

LEVELS = (15, 50)
"""Negatives in a day from which a series belongs to the second and third table."""
KNOTS = (2.0, 2.5, 3.0, 3.5, 4.0, 4.5)
SHIPPED = (
    (0.030, 0.009, 0.0030, 0.0010, 0.0003, 0.0001),
    (0.160, 0.050, 0.0150, 0.0040, 0.0010, 0.00025),
    (0.470, 0.210, 0.0840, 0.0350, 0.0090, 0.0023),
)
"""Share of quiet hours whose largest strength reaches each of `KNOTS`, by level; made by tests/bench/many.py."""
_SHIPPED_HOURS, _GIVE_WAY_HOURS = 5_000.0, 1_000.0
_WIDTH, _BINS = 0.125, 64
_EDGES = np.arange(_BINS + 1) * _WIDTH
_TAIL_HOURS, _TAIL_MOST, _TAIL_LEAST, _TAIL_BINS = 100.0, 0.01, 0.001, 6
_TABLE_HALF_LIFE_H = 30 * 24.0
_EXCLUDED = np.float32(-1)
_VERSION = 1


class DiscoverySnapshotError(ValueError):
    """A snapshot was not written by this version."""


class Table:
    """Hours by largest strength, of one level: fading counts, beside what ships, which gives way to them.

    Above the strength that a hundred hours reach (of all, 1 % at most and 0.1 % at least) the tail is exponential. Its
    scale comes from the next 0.75 (censored maximum likelihood): a surge that slipped in counts once, however strong.

    >>> table = Table(SHIPPED[0])
    >>> [float(p.round(5)) for p in table.p(np.array([0.0, 2.0, 2.5]))]
    [1.0, 0.03, 0.009]
    """

    def __init__(self, shipped: tuple[float, ...]) -> None:
        knots = np.array([0.0, *KNOTS])
        logs = np.log([1.0, *shipped])
        slope = (logs[-1] - logs[-2]) / (knots[-1] - knots[-2])
        beyond = logs[-1] + slope * (_EDGES - knots[-1])
        survival = np.exp(np.where(knots[-1] < _EDGES, beyond, np.interp(_EDGES, knots, logs)))
        self._shipped: Floats = _SHIPPED_HOURS * (survival[:-1] - np.append(survival[1:-1], 0.0))
        self.counts: Floats = np.zeros(_BINS)
        self._refresh()

    def learn(self, strengths: Floats) -> None:
        """Take in an hour's largest strengths [series]."""
        bins = np.clip(strengths / _WIDTH, 0, _BINS - 1).astype(np.int64)
        self.counts = self.counts * 0.5 ** (1 / _TABLE_HALF_LIFE_H) + np.bincount(bins, minlength=_BINS)
        self._refresh()

    def p(self, strengths: Floats) -> Floats:
        """Return the share of quiet hours [n] whose largest strength is at least that."""
        body = np.interp(strengths, _EDGES[: self._start + 1], self._logs[: self._start + 1])
        tail = self._logs[self._start] + (strengths - _EDGES[self._start]) * self._slope
        p: Floats = np.exp(np.where(strengths > _EDGES[self._start], tail, body))
        return p

    def restore(self, counts: Floats) -> None:
        """Take over counts."""
        self.counts = counts
        self._refresh()

    def _refresh(self) -> None:
        counts = self.counts + self._shipped / (1 + self.counts.sum() / _GIVE_WAY_HOURS)
        least: Floats = np.append(np.cumsum(counts[::-1])[::-1], 0.0)  # hours that reach each edge
        beyond = np.clip(_TAIL_HOURS / least[0], _TAIL_LEAST, _TAIL_MOST)
        self._start = min(int(np.argmax(least <= beyond * least[0])), _BINS - _TAIL_BINS - 1)
        entered = least[self._start : self._start + _TAIL_BINS].sum()
        stayed = least[self._start + 1 : self._start + _TAIL_BINS + 1].sum()
        self._slope = float(np.log(stayed / entered) / _WIDTH)
        with np.errstate(divide="ignore"):
            self._logs: Floats = np.log(least / least[0])


class _Snapshot(msgspec.Struct, frozen=True):
    version: int
    hour: int
    tests: float
    alerts: float
    false: float
    tables: list[list[float]]
    peaks: bytes
    levels: bytes


class Discovery:
    """Remembers tests and alerts, learns what is usual; one thread, deterministic. `q` is `settings.share`."""

    def __init__(self, settings: DiscoverySettings | None = None, threshold: float = 3.5) -> None:
        """`threshold` is the strength below which no alert opens, whatever its p."""
        self._settings = settings or DiscoverySettings()
        self._threshold = threshold
        self._tables = [Table(shipped) for shipped in SHIPPED]
        self._hour = 0
        self._tests = self._alerts = self._false = 0.0
        self._peaks: NDArray[np.float32] = np.zeros(0, dtype=np.float32)  # 0: not tested in this hour
        self._levels: NDArray[np.uint8] = np.zeros(0, dtype=np.uint8)

    @property
    def expected_false_share(self) -> float:
        """The share of the alerts of late that is expected to be false."""
        return min(1.0, self._false / max(1.0, self._alerts))

    def observe(
        self, minute: int, columns: Ints, strengths: Floats, negatives: Counts, excluded: Bools, *, learn: bool = True
    ) -> None:
        """Take in the strengths [n] of the series that were judged in a minute, and their negatives of a day.

        `excluded` [series] says which series cannot surge anew, since an open alert is about them or what contains
        them. `learn` is False while there is too little history for the strengths to mean anything.
        """
        if minute // 60 != self._hour:
            self._end_hours(minute // 60 - self._hour, learn=learn)
            self._hour = minute // 60
            self._peaks = np.zeros(excluded.size, dtype=np.float32)
            self._levels = np.zeros(excluded.size, dtype=np.uint8)
        elif excluded.size > self._peaks.size:
            more = excluded.size - self._peaks.size
            self._peaks = np.concatenate([self._peaks, np.zeros(more, dtype=np.float32)])
            self._levels = np.concatenate([self._levels, np.zeros(more, dtype=np.uint8)])
        judged = np.isfinite(strengths)
        columns, negatives = columns[judged], negatives[judged]
        strengths = np.maximum(strengths[judged], _WIDTH / 2)  # however calm: tested
        rises = (strengths > self._peaks[columns]) & (self._peaks[columns] != _EXCLUDED)
        columns, strengths = columns[rises], strengths[rises]
        self._peaks[columns] = strengths
        self._levels[columns] = _level(negatives[rises])
        self._peaks[excluded] = _EXCLUDED

    def p_value(self, strength: float, negatives: int) -> float:
        """Return the share of quiet hours of such a series, by its negatives of a day, with a strength as high."""
        return float(self.p_values(np.array([strength]), np.array([negatives]))[0])

    def p_values(self, strengths: Floats, negatives: Counts | Ints) -> Floats:
        """Return the p-values [n] of strengths [n]."""
        return self._p(strengths, _level(negatives))

    def limit(self, parents: NDArray[np.integer]) -> float:
        """Return the p-value up to which an alert may open now; 1 when control is off.

        `parents` [series] holds the column of what contains each series, -1 where there is none.
        """
        return self._settings.share * self._passing(parents) / self._tested() if self._settings.on else 1.0

    def false_share(self, p: float, parents: NDArray[np.integer]) -> float:
        """Return the share expected to be false of alerts as surprising as one of this p-value, or more so."""
        return min(1.0, p * self._tested() / self._passing(parents))

    def opened(self) -> None:
        """An alert was opened."""
        self._alerts += 1

    def snapshot(self) -> bytes:
        """Return all state."""
        tables = [table.counts.tolist() for table in self._tables]
        state = (_VERSION, self._hour, self._tests, self._alerts, self._false, tables)
        return msgspec.msgpack.encode(_Snapshot(*state, self._peaks.tobytes(), self._levels.tobytes()))

    def restore(self, snapshot: bytes) -> None:
        """Take over what `snapshot` returned, to the bit.

        Raises:
            DiscoverySnapshotError: it is damaged or of another version.
        """
        try:
            state = msgspec.msgpack.decode(snapshot, type=_Snapshot)
            tables = np.array(state.tables, dtype=np.float64)
            peaks, levels = np.frombuffer(state.peaks, np.float32), np.frombuffer(state.levels, np.uint8)
        except (msgspec.MsgspecError, ValueError) as exc:
            raise DiscoverySnapshotError(f"not a snapshot: {exc}") from exc
        if state.version != _VERSION or tables.shape != (len(SHIPPED), _BINS) or peaks.size != levels.size:
            raise DiscoverySnapshotError(f"the snapshot has version {state.version}, this one is {_VERSION}")
        for table, counts in zip(self._tables, tables, strict=True):
            table.restore(counts)
        self._hour, self._tests, self._alerts, self._false = state.hour, state.tests, state.alerts, state.false
        self._peaks, self._levels = peaks.copy(), levels.copy()

    def _tested(self) -> float:
        return max(1.0, self._tests + float((self._peaks > 0).sum()))

    def _p(self, strengths: Floats, levels: NDArray[np.uint8]) -> Floats:
        p = np.empty(strengths.size)
        for level, table in enumerate(self._tables):
            mine = levels == level
            p[mine] = table.p(strengths[mine])
        return p

    def _passing(self, parents: NDArray[np.integer]) -> float:
        """max(1, R, k): k by the step-up, without series whose parent passes too."""
        at = np.flatnonzero(self._peaks > 0)
        p = self._p(self._peaks[at].astype(np.float64), self._levels[at])
        unit = self._settings.share / self._tested()
        ordered = np.sort(p)
        k = int(np.max(np.flatnonzero(ordered <= unit * np.arange(1, p.size + 1)), initial=-1)) + 1
        while k > max(1.0, self._alerts):
            passing = np.zeros(parents.size + 1, dtype=np.bool_)  # the last entry answers for "no parent"
            passing[at[p <= unit * k]] = True
            roots = int((passing[:-1] & ~passing[parents]).sum())
            if roots >= k:
                break
            k = roots
        return max(1.0, self._alerts, float(k))

    def _end_hours(self, hours: int, *, learn: bool) -> None:
        """Learn from the hour that has ended and let `hours` pass."""
        tested = self._peaks > 0
        limit = self._settings.share * max(1.0, self._alerts) / self._tested() if self._settings.on else 1.0
        fade = 0.5 ** (hours / self._settings.half_life_h)
        self._tests = (self._tests + float(tested.sum())) * fade
        for level, table in enumerate(self._tables):
            peaks = self._peaks[tested & (self._levels == level)].astype(np.float64)
            by_chance = float(table.p(np.array([self._threshold]))[0])
            self._false += peaks.size * min(limit, by_chance)
            if learn:
                table.learn(peaks)
        self._false *= fade
        self._alerts *= fade


def _level(negatives: Counts | Ints) -> NDArray[np.uint8]:
    return np.searchsorted(np.array(LEVELS), negatives, side="right").astype(np.uint8)
