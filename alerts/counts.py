"""A detector for plain counts: more of something than its own level, season and usual bursts let one expect.

Any series will do: items an hour, negatives a day, tweets in five minutes. Three steps, each learnt as it goes:

* what is expected: a level that fades over a week times the factor of this hour of this weekday, shrunk towards the
  factors of the hour and of the weekday. A block (an hour) is learnt from once it is 4 h old, winsorised at 2 sd.
* how far from it: counts and expectation are averaged over three lengths with exponential weights (EWMA; Roberts,
  Technometrics 1959); the signed root of the deviance of a negative binomial, whose excess dispersion is learnt for
  each length, is its z (`alerts.negbin`). The largest of the three is the statistic.
* how rare that is for this series: the maxima of its blocks of 4 h follow a Gumbel distribution (Gumbel, Statistics of
  Extremes, 1958), fitted by moments that fade over a month, so that a series full of bursts needs a larger one.

The result is a return period: one expects as much once in so many days. An episode gets one point; in the day after it
only what is rarer still gets another. Rises only: silence is told from calm by who reads the source.

What it assumes: the tail of the maxima is exponential; rows come in order; zero is a count, a lacking row is not.
"""

from __future__ import annotations

import math
import zlib

import msgspec
import numpy as np
from numpy.typing import NDArray

from alerts.negbin import Floats, signed_root

Bools = NDArray[np.bool_]

SCALES_S = (900.0, 3_600.0, 14_400.0, 86_400.0, 259_200.0, 604_800.0)
"""Lengths of the averages; three are used, from the longest that a row does not exceed by far."""
POINT_DAYS = 7.0
"""Return period from which an episode gets a point: what chance alone brings once a week is no news."""
_SCORE_SCALE = 4.0
_ESCALATION = math.exp(4)  # times as rare
_COOL_DOWN_S = 86_400.0
_DAY_S = 86_400.0
_HOUR_S = 3_600.0
_CELLS = 168
_LEVEL_D, _SEASON_D, _DISPERSION_D, _TAIL_D = 7.0, 28.0, 10.0, 30.0
_BLOCKS_AT_LEAST = 20  # nothing fades faster than over so many blocks, however long a row is
_GUARD_S = 14_400.0
_TAIL_BLOCK_S = 14_400.0
_WINSOR_SD = 2.0
_WINSOR_SLACK = 0.02
_HOUR_PRIOR, _DAY_PRIOR, _CELL_PRIOR = 1.0, 24.0, 7.0
_START_DISPERSION, _START_WEIGHT, _FLOOR = 0.1, 100.0, 0.002
_CLIP_SD, _CLIP_SCALE, _FAR_SD, _FAR_WEIGHT = 2.5, 1.15, 3.0, 0.1
_TAIL_LOCATION, _TAIL_SCALE, _TAIL_PRIOR, _TAIL_CLIP = 1.5, 0.6, 18.0, 8.0
_EULER, _GUMBEL_SD = 0.5772156649, math.pi / math.sqrt(6)
_WARM_UP_BLOCKS, _UNWINSORISED = 20, 6
_VERSION = 1


class CountJudgement(msgspec.Struct, frozen=True):
    """All series at one row; each field is an array [series].

    `expected` and `variance` are of this row's count. `z` is the largest of the three lengths, `length` which one.
    `days` is the return period of `z` (NaN while a series warms up or is missing), `score` the same on a scale of 0
    to 1; `point` says that an episode begins here, or becomes rarer than it was.
    """

    expected: Floats
    variance: Floats
    z: Floats
    length: NDArray[np.int64]
    days: Floats
    score: Floats
    point: Bools


class CountSnapshotError(ValueError):
    """A snapshot is damaged or of another version."""


class _Snapshot(msgspec.Struct, frozen=True):
    version: int
    step_s: float
    numbers: tuple[float, int, int, int, int]
    arrays: dict[str, tuple[str, list[int], bytes]]


def score_of(days: Floats) -> Floats:
    """Return the score of a return period: 0 up to a week, 0.27 at a month, 0.5 at a year, 0.61 at ten.

    >>> score_of(np.array([1.0, 7.0, 30.0, 365.0, 3650.0])).round(2)
    array([0.  , 0.  , 0.27, 0.5 , 0.61])
    """
    rarity = np.maximum(np.log(np.maximum(days, POINT_DAYS) / POINT_DAYS), 0.0)
    score: Floats = rarity / (rarity + _SCORE_SCALE)
    return score


def scales_of(step_s: float) -> tuple[float, ...]:
    """Return the three lengths, in seconds, for rows that stand `step_s` apart.

    >>> scales_of(300), scales_of(3600), scales_of(86400)
    ((900.0, 3600.0, 14400.0), (3600.0, 14400.0, 86400.0), (86400.0, 259200.0, 604800.0))
    """
    first = sum(scale <= step_s for scale in SCALES_S[1:-2])
    return SCALES_S[first : first + 3]


class CountDetector:
    """Judges `series` counts that come together, a row at a time. About 1.8 kB a series; one thread.

    >>> detector, noise = CountDetector(1, step_s=3600), np.random.default_rng(0)
    >>> for hour in range(24 * 14):
    ...     quiet = detector.update(hour * 3600.0, noise.poisson(20, 1))
    >>> surge = detector.update(24 * 14 * 3600.0, np.array([70]))
    >>> bool(quiet.point[0]), bool(surge.point[0]), bool(surge.score[0] > 0.5)
    (False, True, True)
    """

    def __init__(self, series: int, step_s: float) -> None:
        """`step_s` is the usual time from row to row, in seconds."""
        if not (series > 0 and 0 < step_s < math.inf):
            raise ValueError(f"a detector needs a series and a step over 0 s, not {series} and {step_s}")
        self.step_s = float(step_s)
        self._scales = np.array(scales_of(step_s))
        self._block_s = max(_HOUR_S, step_s)
        self._tail_block_s = max(_TAIL_BLOCK_S, step_s)
        self._guard = max(2, round(_GUARD_S / self._block_s))
        lengths = len(self._scales)
        self._season = np.zeros((2, series, _CELLS), dtype=np.float32)  # ratios to the level, and their number
        self._waiting = np.zeros((3, self._guard + 1, series))  # counts, season and seconds of blocks not yet learnt
        self._waiting_block = np.full(self._guard + 1, -1, dtype=np.int64)
        self._counts, self._exposure = np.zeros(series), np.zeros(series)
        self._learnt = np.zeros(series, dtype=np.int32)
        self._observed, self._expected = np.zeros((lengths, series)), np.zeros((lengths, series))
        self._excess, self._weight = np.zeros((lengths, series)), np.zeros((lengths, series))
        self._since_s = np.zeros(lengths)
        self._highest = np.full(series, -np.inf)
        self._maxima = np.zeros((3, series))  # sums of the blocks' maxima, of their squares, and their number
        self._point_at, self._point_rarity = np.full(series, -np.inf), np.zeros(series)
        self._at, self._block, self._tail_block = -math.inf, -1, -1
        self._rows = 0
        self._near = np.ones((3, series))
        self._tells = 1 + np.exp(-self.step_s / self._scales)[:, None]
        self._refresh()

    @property
    def at(self) -> float:
        """The time of the last row; -inf before the first."""
        return self._at

    def update(self, at: float, counts: NDArray[np.generic], covered_s: float | None = None) -> CountJudgement:
        """Take in the counts [series] of the row that ends at `at` (Unix seconds), and judge them.

        `covered_s` is the time that they stand for, the usual step when not given. NaN marks a series as missing: it
        is neither judged nor learnt from.

        Raises:
            ValueError: the row is not later than the last one, or a count is negative or infinite.
        """
        if not self._at < at < math.inf:
            raise ValueError(f"the row of {at} does not come after that of {self._at}")
        values = np.asarray(counts, dtype=np.float64)
        if (values < 0).any() or np.isinf(values).any():
            raise ValueError("counts are finite and not negative")
        covered = self.step_s if covered_s is None else covered_s
        elapsed = covered if self._rows == 0 else at - self._at
        seen = ~np.isnan(values)
        values = np.where(seen, values, 0.0)
        self._go_to(at)
        factor = self._factor(at)
        slot = self._block % (self._guard + 1)
        self._waiting[:, slot] += np.stack([values, factor * covered * seen, covered * seen])
        expected = np.maximum(self._level * factor * covered, 1e-6)
        z = self._judge(values, expected * seen, elapsed)
        self._observe(elapsed)
        self._at, self._rows = at, self._rows + 1
        variance = expected + expected**2 * (self._dispersion[0] + self._own)
        return self._judgement(at, z, seen, expected, variance)

    def snapshot(self) -> bytes:
        """Return all state, compressed."""
        arrays = {name: getattr(self, name) for name in self._fields()}
        packed = {name: (a.dtype.str, list(a.shape), a.tobytes()) for name, a in arrays.items()}
        numbers = (self._at, self._block, self._tail_block, self._rows, self._counts.size)
        return zlib.compress(msgspec.msgpack.encode(_Snapshot(_VERSION, self.step_s, numbers, packed)), level=1)

    @classmethod
    def restore(cls, snapshot: bytes) -> CountDetector:
        """Return the detector that `snapshot` was taken of; it goes on to the bit.

        Raises:
            CountSnapshotError: it is damaged or of another version.
        """
        try:
            state = msgspec.msgpack.decode(zlib.decompress(snapshot), type=_Snapshot)
            if state.version != _VERSION:
                raise CountSnapshotError(f"the snapshot has version {state.version}, this detector {_VERSION}")
            detector = cls(state.numbers[4], state.step_s)
            for name in cls._fields():
                kind, shape, raw = state.arrays[name]
                setattr(detector, name, np.frombuffer(raw, np.dtype(kind)).reshape(shape).copy())
        except (zlib.error, msgspec.MsgspecError, ValueError, TypeError, KeyError) as exc:
            raise exc if isinstance(exc, CountSnapshotError) else CountSnapshotError(f"not a snapshot: {exc}") from exc
        detector._at, detector._block, detector._tail_block, detector._rows, _ = state.numbers
        detector._refresh()
        return detector

    @staticmethod
    def _fields() -> tuple[str, ...]:
        return (
            *("_season", "_waiting", "_waiting_block", "_counts", "_exposure", "_learnt", "_observed", "_expected"),
            *("_excess", "_weight", "_since_s", "_highest", "_maxima", "_point_at", "_point_rarity", "_near"),
        )

    def _go_to(self, at: float) -> None:
        """Close the blocks that ended before `at`."""
        block, tail_block = int(at // self._block_s), int(at // self._tail_block_s)
        if block != self._block:
            due = np.flatnonzero((self._waiting_block >= 0) & (self._waiting_block < block - self._guard))
            for slot in due[np.argsort(self._waiting_block[due])]:
                self._learn(int(self._waiting_block[slot]), *self._waiting[:, slot])
                self._waiting[:, slot], self._waiting_block[slot] = 0.0, -1
            self._waiting_block[block % (self._guard + 1)] = block
            passed = block - self._block if self._block >= 0 else 0
            self._block = block
            self._fade(passed)
            self._near = np.stack([self._cell(block + step) for step in (-1, 0, 1)])
        if tail_block != self._tail_block:
            if self._tail_block >= 0:
                self._learn_tail(tail_block - self._tail_block)
            self._tail_block = tail_block
            self._highest[:] = -np.inf

    def _learn(self, block: int, counts: Floats, exposure: Floats, covered: Floats) -> None:
        """Take in one block: counts, and the seconds that they stand for with and without the season's factor."""
        seen = covered > 0
        mean = self._level * exposure
        sd = np.sqrt(mean + mean**2 * (self._dispersion[1] + _WINSOR_SLACK))
        bounded = np.clip(counts, mean - _WINSOR_SD * sd, mean + _WINSOR_SD * sd + 1)
        bounded = np.where(self._learnt < _UNWINSORISED, counts, bounded)
        self._counts += np.where(seen, bounded, 0.0)
        self._exposure += np.where(seen, exposure, 0.0)
        self._learnt += seen
        self._refresh()
        share = covered / self._block_s
        ratio = np.where(seen, bounded / np.maximum(self._level * self._block_s, 1e-9), 0.0)
        self._season[0, :, self._cell_of(block)] += ratio.astype(np.float32)
        self._season[1, :, self._cell_of(block)] += share.astype(np.float32)

    def _fade(self, blocks: int) -> None:
        days = blocks * self._block_s / _DAY_S
        slowest = _BLOCKS_AT_LEAST * self._block_s / _DAY_S
        level, season = (math.exp(-days / max(constant, slowest)) for constant in (_LEVEL_D, _SEASON_D))
        self._counts, self._exposure = level * self._counts, level * self._exposure
        self._season *= np.float32(season)

    def _cell_of(self, block: int) -> int:
        return int(block * self._block_s // _HOUR_S) % _CELLS

    def _cell(self, block: int) -> Floats:
        """Return the factor [series] of a block's hour of the week, shrunk towards hour and weekday."""
        day, hour = divmod(self._cell_of(block), 24)
        ratios, numbers = self._season.reshape(2, -1, 7, 24).astype(np.float64)
        noise = 1 / np.maximum(self._level * self._block_s, 1e-3)  # of a block's count, as a variance of its ratio
        prior = _HOUR_PRIOR * (1 + 2 * noise)[:, None]
        hours = (prior + ratios.sum(1)) / (prior + numbers.sum(1))
        prior_day = _DAY_PRIOR * (1 + noise)
        weekday = (prior_day + ratios[:, day].sum(1)) / (prior_day + (numbers[:, day] * hours).sum(1))
        prior_cell = _CELL_PRIOR * (1 + 2 * noise)
        cell: Floats = (prior_cell * hours[:, hour] * weekday + ratios[:, day, hour]) / (
            prior_cell + numbers[:, day, hour]
        )
        return cell

    def _factor(self, at: float) -> Floats:
        """Return the season's factor at a moment, between the middles of blocks on a straight line."""
        if self._block_s > _HOUR_S:
            middle: Floats = self._near[1]
            return middle
        off = at % self._block_s / self._block_s - 0.5
        factor: Floats = (1 - abs(off)) * self._near[1] + abs(off) * self._near[2 if off > 0 else 0]
        return factor

    def _judge(self, values: Floats, expected: Floats, elapsed: float) -> Floats:
        """Move the averages on and return the z of each [length, series]."""
        keep = np.exp(-elapsed / self._scales)[:, None]
        self._observed = keep * self._observed + values
        self._expected = keep * self._expected + expected
        # A weighted sum tells as much as a plain count that is larger by (sum of weights) / (sum of their squares).
        mean = self._tells * np.maximum(self._expected, 1e-9)
        z: Floats = signed_root(self._tells * self._observed, mean, 1 / (self._dispersion + self._own))
        return z

    def _observe(self, elapsed: float) -> None:
        """Learn the dispersion of each average, about once in its length."""
        self._since_s += elapsed
        warm = self._learnt >= _WARM_UP_BLOCKS
        for at in np.flatnonzero(self._since_s >= np.maximum(self._scales, self.step_s) * (1 - 1e-9)):
            mean = self._tells[at] * np.maximum(self._expected[at], 1e-9)
            plain = mean + mean**2 * self._own
            variance = plain + mean**2 * self._dispersion[at]
            residual, sd = np.abs(self._tells[at] * self._observed[at] - mean), np.sqrt(variance)
            clipped = _CLIP_SCALE * np.minimum(residual, _CLIP_SD * sd)
            tells = np.where(residual > _FAR_SD * sd, _FAR_WEIGHT, 1.0) * mean**2 / variance**2 * warm
            days = self._since_s[at] / _DAY_S
            fade = math.exp(-days / max(_DISPERSION_D, _BLOCKS_AT_LEAST * self._block_s / _DAY_S))
            self._excess[at] = fade * self._excess[at] + tells * (clipped**2 - plain)
            self._weight[at] = fade * self._weight[at] + tells * mean**2
            self._since_s[at] = 0.0
            self._refresh()

    def _learn_tail(self, blocks: int) -> None:
        """Take in the largest z of the block that ended."""
        seen = np.isfinite(self._highest)
        location, scale = self._tail()
        bounded = np.where(
            seen, np.clip(self._highest, location - _TAIL_CLIP * scale, location + _TAIL_CLIP * scale), 0
        )
        fade = math.exp(-blocks * self._tail_block_s / _DAY_S / max(_TAIL_D, _BLOCKS_AT_LEAST * self._block_s / _DAY_S))
        self._maxima = fade * self._maxima + np.stack([bounded, bounded**2, seen.astype(np.float64)])

    def _tail(self) -> tuple[Floats, Floats]:
        """Return location and scale of the blocks' maxima [series]; blocks of a calm series stand in at first."""
        prior_mean, prior_sd = _TAIL_LOCATION + _EULER * _TAIL_SCALE, _GUMBEL_SD * _TAIL_SCALE
        number = self._maxima[2] + _TAIL_PRIOR
        mean = (self._maxima[0] + _TAIL_PRIOR * prior_mean) / number
        square = (self._maxima[1] + _TAIL_PRIOR * (prior_mean**2 + prior_sd**2)) / number
        scale: Floats = np.sqrt(np.maximum(square - mean**2, 0.01)) / _GUMBEL_SD
        return mean - _EULER * scale, scale

    def _judgement(self, at: float, z: Floats, seen: Bools, expected: Floats, variance: Floats) -> CountJudgement:
        most = z.max(axis=0)
        judged = seen & (self._learnt >= _WARM_UP_BLOCKS)
        location, scale = self._tail()
        rarity = np.clip((most - location) / scale, -5.0, 300.0)  # the log of the blocks that one waits for as much
        days = np.where(judged, self._tail_block_s / _DAY_S * np.exp(rarity), np.nan)
        score = np.where(judged, score_of(np.nan_to_num(days)), 0.0)
        self._highest = np.where(judged, np.maximum(self._highest, most), self._highest)
        again = (at - self._point_at > _COOL_DOWN_S) | (rarity > self._point_rarity + math.log(_ESCALATION))
        point: Bools = (score > 0) & again
        self._point_at = np.where(point, at, self._point_at)
        self._point_rarity = np.where(point, rarity, self._point_rarity)
        return CountJudgement(expected, variance, most, z.argmax(axis=0), days, score, point)

    def _refresh(self) -> None:
        self._level: Floats = self._counts / np.maximum(self._exposure, 1e-9)
        self._own: Floats = 1 / (self._counts + 1.5)
        estimate = (self._excess + _START_WEIGHT * _START_DISPERSION) / (self._weight + _START_WEIGHT)
        self._dispersion: Floats = np.maximum(estimate, _FLOOR)
