"""Many series at once: how rare an hour's largest strength is, and how rare it must be before an alert opens.

* p-values: how often a quiet series comes to such a strength anew in a clock's hour, against a table of hours in which
  nothing was open (`Table`), one for each of three levels of negatives a day: a series that is looked at sixty times an
  hour reaches what one looked at once does not. An excursion counts once, however many hours it lasts (runs
  declustering; Leadbetter, Lindgren and Rootzén, Extremes, 1983): it would open one alert. Strengths are tested as
  they rise, so p is valid at any moment of the hour.
* false discoveries: online control with a decaying memory (Rebjock, Kurt, Januschowski and Callot, Online false
  discovery rate control for anomaly detection in time series, NeurIPS 2021), with the step-up of Benjamini and Hochberg
  (1995) within the hour: open when p <= (q·max(1, R, k) + t)/n. n and R are the tests and the alerts of the past, each
  fading with a half-life; k is how many series of this hour pass at once, a part not beside what contains it; t is how
  many false alerts are tolerated in the time of those tests though nothing else surges: the expected number of false
  ones is at most q·R + t (the marginal rate of Foster and Stine, JRSS B 2008, whose eta is t/q).

An hour of a series is one test when the series had enough negatives to be judged; what an open alert is about, or
contains, is neither tested nor learnt from, but that it came to the threshold. Time is the arrival minute, so that live
and backtest agree to the bit.

What it assumes: hours of quiet series of one level are alike; surges that nobody was told of are few (they make p
larger, never smaller); the tail beyond the threshold falls as that of the series simulated in tests/bench/many.py.
"""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from alerts.columns import Bools, Counts, Floats, Ints
from alerts.settings import DiscoverySettings

LEVELS = (15, 50)
"""Negatives in a day from which a series belongs to the second and third table."""
KNOTS = (1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0)
SHIPPED = (
    (0.068, 0.025, 0.010, 0.0031, 0.00064, 8.7e-5, 9e-6, 9e-7),
    (0.100, 0.058, 0.026, 0.0093, 0.00230, 7.3e-4, 5e-5, 8e-6),
    (0.066, 0.066, 0.050, 0.0240, 0.00770, 1.5e-3, 1.8e-4, 4.5e-5),
)
"""How often a quiet hour comes to each of `KNOTS` anew, by level; made by
`python -m tests.bench.many --planted 0 --series 6000 --seed 3 --table`; rarer ones drawn on."""
_SHIPPED_HOURS, _GIVE_WAY_HOURS = 5_000.0, 1_000.0
_WIDTH, _BINS = 0.125, 64
_EDGES = np.arange(_BINS) * _WIDTH
_SINKS = np.float32(_WIDTH)
_TAIL_HOURS = 50.0
_SLOPE = -3.0  # of ln(p) beyond the last knot, where nothing was seen: less steep than up to there
_TABLE_FADE = 0.5 ** (1 / (30 * 24.0))  # an hour
_EXCLUDED, _OPENED = np.float32(-1), np.float32(-2)
_VERSION = 3


class DiscoverySnapshotError(ValueError):
    """A snapshot was not written by this version."""


class Table:
    """Hours of one level that came to each strength anew: fading counts, beside what ships, which gives way to them.

    Of what reaches the detector's threshold much opens alerts and is not learnt, and what is learnt may be surges that
    nobody was told of. So the tail beyond it, or beyond what fifty hours came to, falls as the shipped one does.

    >>> table = Table(SHIPPED[0], 3.5)
    >>> [float(p.round(5)) for p in table.p(np.array([0.0, 2.0, 2.5]))]
    [1.0, 0.025, 0.01]
    """

    def __init__(self, shipped: tuple[float, ...], threshold: float) -> None:
        knots = np.array([0.0, *KNOTS])
        logs = np.log([1.0, *shipped])
        self._shipped: Floats = np.where(
            knots[-1] < _EDGES, logs[-1] + _SLOPE * (_EDGES - knots[-1]), np.interp(_EDGES, knots, logs)
        )
        self._last = int(threshold / _WIDTH)
        self.counts: Floats = np.zeros(_BINS)  # hours that came to each edge; to the first, all
        self._logs: Floats | None = None  # of p by edge, worked out when it is asked for

    def learn(self, peaks: Floats, before: Floats) -> None:
        """Take in an hour's largest strengths [series], and what each series had come to shortly before."""
        self.counts, self._logs = self.counts * _TABLE_FADE, None
        if not peaks.size:
            return
        top, known = (np.clip(values / _WIDTH, 0, _BINS - 1).astype(np.int64) for values in (peaks, before))
        anew = top > known
        steps = np.bincount(top[anew], minlength=_BINS) - np.bincount(known[anew], minlength=_BINS)
        self.counts += np.cumsum(steps[::-1])[::-1]
        self.counts[0] += peaks.size

    def p(self, strengths: Floats) -> Floats:
        """Return the share of quiet hours [n] that come to at least that strength anew."""
        if self._logs is None:
            self._logs = self._worked_out()
        beyond = self._logs[-1] + (strengths - _EDGES[-1]) * _SLOPE
        p: Floats = np.exp(np.where(strengths > _EDGES[-1], beyond, np.interp(strengths, _EDGES, self._logs)))
        return p

    def restore(self, counts: Floats) -> None:
        """Take over counts."""
        self.counts, self._logs = counts, None

    def _worked_out(self) -> Floats:
        hours = _SHIPPED_HOURS / (1 + self.counts[0] / _GIVE_WAY_HOURS)
        counts = np.maximum(self.counts, 0.0) + hours * np.exp(self._shipped)
        counts = np.maximum.accumulate(counts[::-1])[::-1]  # little comes anew to where many are
        start = max(1, min(self._last, int((counts >= _TAIL_HOURS).sum()) - 1))
        body = np.log(counts[: start + 1] / counts[0])
        return np.append(body, body[-1] + self._shipped[start + 1 :] - self._shipped[start])


class _Snapshot(msgspec.Struct, frozen=True):
    version: int
    hour: int
    span_h: float
    tests: float
    alerts: float
    false: float
    tables: list[list[float]]
    peaks: bytes
    levels: bytes
    before: bytes


class Discovery:
    """Remembers tests and alerts, learns what is usual; one thread, deterministic. `q` is `settings.share`."""

    def __init__(self, settings: DiscoverySettings | None = None, threshold: float = 3.5) -> None:
        """`threshold` is the strength below which no alert opens, whatever its p."""
        self._settings = settings or DiscoverySettings()
        self._threshold = threshold
        self._tables = [Table(shipped, threshold) for shipped in SHIPPED]
        self._hour = 0
        self._tests = self._alerts = self._false = self._span_h = 0.0
        self._peaks: NDArray[np.float32] = np.zeros(0, dtype=np.float32)  # 0: not tested in this hour
        self._levels: NDArray[np.uint8] = np.zeros(0, dtype=np.uint8)
        self._before: NDArray[np.float32] = np.zeros(0, dtype=np.float32)  # what earlier hours came to, sinking

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
            if minute // 1_440 != self._hour // 24 or minute // 60 > self._hour + 1:
                self._before = np.zeros(0, dtype=np.float32)  # columns move at midnight, and after a gap without items
            self._hour = minute // 60
            self._peaks, self._levels = np.zeros_like(self._before), np.zeros(self._before.size, dtype=np.uint8)
        if more := excluded.size - self._peaks.size:
            self._peaks, self._before, self._levels = (
                np.append(known, np.zeros(more, known.dtype)) for known in (self._peaks, self._before, self._levels)
            )
        if not columns.size and not excluded.any():
            return
        judged = np.isfinite(strengths)
        columns, negatives = columns[judged], negatives[judged]
        strengths = np.maximum(strengths[judged], _WIDTH / 2)  # however calm: tested
        rises = (strengths > self._peaks[columns]) & (self._peaks[columns] >= 0) & ~excluded[columns]
        columns, strengths = columns[rises], strengths[rises]
        self._peaks[columns] = strengths
        self._levels[columns] = _level(negatives[rises])
        surged = (self._peaks >= self._threshold) | (self._peaks == _OPENED)
        self._peaks[excluded] = np.where(surged[excluded], _OPENED, _EXCLUDED)

    def p_value(self, strength: float, negatives: int) -> float:
        """Return how often a quiet series with so many negatives a day comes to such a strength anew in an hour."""
        return float(self.p_values(np.array([strength]), np.array([negatives]))[0])

    def p_values(self, strengths: Floats, negatives: Counts | Ints) -> Floats:
        """Return the p-values [n] of strengths [n]."""
        return self._p(strengths, _level(negatives))

    def limit(self, parents: NDArray[np.integer]) -> float:
        """Return the p-value up to which an alert may open now; 1 when control is off.

        `parents` [series] holds the column of what contains each series, -1 where there is none.
        """
        return self._allowed(self._passing(parents))

    def false_share(self, p: float, parents: NDArray[np.integer]) -> float:
        """Return the share expected to be false of alerts as surprising as one of this p-value, or more so."""
        return min(1.0, p * self._tested() / self._passing(parents))

    def opened(self) -> None:
        """An alert was opened."""
        self._alerts += 1

    def snapshot(self) -> bytes:
        """Return all state."""
        tables = [table.counts.tolist() for table in self._tables]
        state = (_VERSION, self._hour, self._span_h, self._tests, self._alerts, self._false, tables)
        columns = (self._peaks.tobytes(), self._levels.tobytes(), self._before.tobytes())
        return msgspec.msgpack.encode(_Snapshot(*state, *columns))

    def restore(self, snapshot: bytes) -> None:
        """Take over what `snapshot` returned, to the bit.

        Raises:
            DiscoverySnapshotError: it is damaged or of another version.
        """
        try:
            state = msgspec.msgpack.decode(snapshot, type=_Snapshot)
            tables = np.array(state.tables, dtype=np.float64)
            peaks, levels = np.frombuffer(state.peaks, np.float32), np.frombuffer(state.levels, np.uint8)
            before = np.frombuffer(state.before, np.float32)
        except (msgspec.MsgspecError, ValueError) as exc:
            raise DiscoverySnapshotError(f"not a snapshot: {exc}") from exc
        if (
            state.version != _VERSION
            or tables.shape != (len(SHIPPED), _BINS)
            or not peaks.size == levels.size == before.size
        ):
            raise DiscoverySnapshotError(f"the snapshot has version {state.version}, this one is {_VERSION}")
        for table, counts in zip(self._tables, tables, strict=True):
            table.restore(counts)
        self._hour, self._span_h, self._tests = state.hour, state.span_h, state.tests
        self._alerts, self._false = state.alerts, state.false
        self._peaks, self._levels, self._before = peaks.copy(), levels.copy(), before.copy()

    def _tested(self) -> float:
        return max(1.0, self._tests + float((self._peaks > 0).sum()))

    def _allowed(self, alerts: float) -> float:
        """Return the p-value up to which an alert may open when so many alerts are found."""
        settings = self._settings
        tolerated = settings.tolerated_a_day * (self._span_h + 1) / 24
        return min(1.0, (settings.share * alerts + tolerated) / self._tested()) if settings.on else 1.0

    def _p(self, strengths: Floats, levels: NDArray[np.uint8]) -> Floats:
        p = np.empty(strengths.size)
        for level, table in enumerate(self._tables):
            mine = levels == level
            p[mine] = table.p(strengths[mine])
        return p

    def _passing(self, parents: NDArray[np.integer]) -> float:
        """max(1, R, k): k by the step-up, without series whose parent passes too."""
        at = np.flatnonzero(self._peaks >= self._threshold)
        p = self._p(self._peaks[at].astype(np.float64), self._levels[at])
        first, second = self._allowed(1.0), self._allowed(2.0)
        allowed = first + (second - first) * np.arange(p.size)
        k = int(np.max(np.flatnonzero(np.sort(p) <= allowed), initial=-1)) + 1
        while k > max(1.0, self._alerts):
            passing = np.zeros(parents.size + 1, dtype=np.bool_)  # the last entry answers for "no parent"
            passing[at[p <= allowed[k - 1]]] = True
            roots = int((passing[:-1] & ~passing[parents]).sum())
            if roots >= k:
                break
            k = roots
        return max(1.0, self._alerts, float(k))

    def _end_hours(self, hours: int, *, learn: bool) -> None:
        """Learn from the hour that has ended and let `hours` pass."""
        opened = self._peaks == _OPENED
        # What it came to beyond the threshold is not learnt; that it came to it is, for many that do are quiet series.
        tested = (self._peaks > 0) | opened
        peaks = np.where(opened, self._threshold, self._peaks).astype(np.float64)
        limit = self._allowed(max(1.0, self._alerts))
        fade = 0.5 ** (hours / self._settings.half_life_h)
        self._tests = (self._tests + float(tested.sum())) * fade
        self._span_h = (self._span_h + float(tested.any())) * fade
        for level, table in enumerate(self._tables):
            mine = tested & (self._levels == level)
            if number := float(mine.sum()):
                by_chance = float(table.p(np.array([self._threshold]))[0])
                self._false += number * min(limit, by_chance)
            if learn:
                table.learn(peaks[mine], self._before[mine].astype(np.float64))
        self._before = np.maximum(self._before - hours * _SINKS, np.maximum(self._peaks, 0))
        self._before[self._peaks < 0] = 0
        self._false *= fade
        self._alerts *= fade


def _level(negatives: Counts | Ints) -> NDArray[np.uint8]:
    return np.searchsorted(np.array(LEVELS), negatives, side="right").astype(np.uint8)
