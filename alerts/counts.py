"""A detector for plain counts: more or less of something than its own level and time of day let one expect.

Any series will do: items an hour, negatives a day, tweets in five minutes. Rows are added up to blocks of half an hour
(longer rows are blocks themselves), and twice the square root of a block, near normal with a spread that does not
depend on the level (Anscombe, Biometrika 1948), is compared with

* what is expected: the median of the past seven days, moved towards the median of the same hour of those days the more
  of them were seen. Rows longer than half a day have the week for a day. The last four hours are left out, so that
  what begins now does not raise its own bar.
* how far it usually is from that: a standard deviation that fades over seven days, each block clipped at three of
  them, and never under that of chance alone.

A rise is judged by its block, as soon as the block holds enough, a fall by the mean of six hours (EWMA; Roberts,
Technometrics 1959): silence of half an hour is nothing. An episode gets one point; in the day after it only what is
half as large again gets another.

What it assumes: rows come in order; zero is a count, a lacking row is not.
"""

from __future__ import annotations

import math
import zlib

import msgspec
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

POINT_Z = 3.0
"""Standard deviations from which an episode gets a point."""
_ESCALATION = 1.5
_COOL_DOWN_S = 86_400.0
_DAY_S = 86_400.0
_BLOCK_S = 1_800.0
_PERIODS = 7
_GUARD_S, _NEAR_S, _FALL_S = 14_400.0, 3_600.0, 21_600.0
_SEASON_PRIOR = 3.0  # days
_CLIP_SD = 3.0
_START_VARIANCE, _START_BLOCKS = 4.0, 24.0
_WARM_UP_BLOCKS = 20
_VERSION = 2


class CountJudgement(msgspec.Struct, frozen=True):
    """All series at one row; each field is an array [series].

    `expected` and `variance` are of this row's count. `z` is the distance from what is expected, below zero for a fall
    (NaN while a series warms up or is missing), `score` the same on a scale of 0 to 1; `point` says that an episode
    begins here, or becomes half as large again as it was.
    """

    expected: Floats
    variance: Floats
    z: Floats
    score: Floats
    point: Bools


class CountSnapshotError(ValueError):
    """A snapshot is damaged or of another version."""


class _Snapshot(msgspec.Struct, frozen=True):
    version: int
    step_s: float
    numbers: tuple[float, int, int]
    arrays: dict[str, tuple[str, list[int], bytes]]


def score_of(z: Floats) -> Floats:
    """Return the score of a distance, up or down: 0 below three standard deviations, 0.5 at six.

    >>> score_of(np.array([-9.0, 1.0, 3.0, 6.0, 14.0])).round(2)
    array([0.6 , 0.  , 0.33, 0.5 , 0.7 ])
    """
    size = np.abs(z)
    score: Floats = np.where(size >= POINT_Z, size / (size + 2 * POINT_Z), 0.0)  # NaN is 0
    return score


class CountDetector:
    """Judges `series` counts that come together, a row at a time. Under 2 kB a series; one thread.

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
        self._block_s = step_s * max(1, round(_BLOCK_S / step_s))
        self._period = (_DAY_S if self._block_s <= _DAY_S / 2 else 7 * _DAY_S) / self._block_s  # blocks
        self._guard = max(1, round(_GUARD_S / self._block_s))
        self._length = max(math.ceil(_PERIODS * self._period), _WARM_UP_BLOCKS)
        fall = max(1.0, _FALL_S / self._block_s)
        # Neighbouring blocks are far from independent: the mean of twelve is half as spread as one, not a fifth.
        self._fall_weight, self._fall_scale = 1 / fall, fall**0.25
        self._cool_down_s = max(_COOL_DOWN_S, 4 * self._block_s)
        self._past = np.full((series, self._length + self._guard + 1), np.nan, dtype=np.float32)  # roots; a ring
        self._count, self._covered = np.zeros(series), np.zeros(series)  # of the open block
        self._seen = np.zeros(series, dtype=np.int32)
        self._squares, self._blocks = np.zeros(series), np.zeros(series)  # sums that fade
        self._fall = np.zeros(series)
        self._point_at, self._point_z = np.full(series, -np.inf), np.zeros(series)
        self._at, self._block = -math.inf, -1
        self._expect()

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
        seen = ~np.isnan(values)
        if (block := int(at // self._block_s)) != self._block:
            self._close(block)
        self._at = at
        self._count += np.where(seen, values, 0.0)
        self._covered += covered * seen
        # An open block counts as if nothing more came: what is too much already needs no waiting.
        rise = (self._root(np.maximum(self._covered, self._block_s)) - self._mean) / self._sd
        fall = self._fall_scale * self._fall
        z = np.where(rise >= -fall, rise, fall)
        return self._judgement(np.where(seen & (self._seen >= self._warm_up), z, np.nan), covered)

    def snapshot(self) -> bytes:
        """Return all state, compressed."""
        arrays = {name: getattr(self, name) for name in self._fields()}
        packed = {name: (a.dtype.str, list(a.shape), a.tobytes()) for name, a in arrays.items()}
        numbers = (self._at, self._block, self._seen.size)
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
            detector = cls(state.numbers[2], state.step_s)
            for name in cls._fields():
                kind, shape, raw = state.arrays[name]
                setattr(detector, name, np.frombuffer(raw, np.dtype(kind)).reshape(shape).copy())
        except (zlib.error, msgspec.MsgspecError, ValueError, TypeError, KeyError) as exc:
            raise exc if isinstance(exc, CountSnapshotError) else CountSnapshotError(f"not a snapshot: {exc}") from exc
        detector._at, detector._block, _ = state.numbers
        detector._expect()
        return detector

    @staticmethod
    def _fields() -> tuple[str, ...]:
        return (*("_past", "_count", "_covered", "_seen", "_squares", "_blocks", "_fall", "_point_at", "_point_z"),)

    @property
    def _warm_up(self) -> int:
        return max(_WARM_UP_BLOCKS, math.ceil(self._period))

    def _root(self, covered: Floats) -> Floats:
        root: Floats = 2 * np.sqrt(self._count * self._block_s / covered + 0.375)
        return root

    def _close(self, block: int) -> None:
        """Learn from the block that ended, and turn to `block`."""
        if self._block >= 0:
            seen = self._covered >= self._block_s / 2
            root = self._root(np.maximum(self._covered, 1e-9))
            off = np.where(seen & (self._seen > self._guard), root - self._mean, 0.0)
            self._fall += self._fall_weight * seen * (off / self._sd - self._fall)
            fade = math.exp(-1 / self._length)
            self._squares = fade * self._squares + np.clip(off, -_CLIP_SD * self._sd, _CLIP_SD * self._sd) ** 2
            self._blocks = fade * self._blocks + (off != 0)
            self._past[:, self._block % self._past.shape[1]] = np.where(seen, root, np.nan)
            self._seen += seen
        # The oldest makes place for the open one, and blocks without a row are missing.
        passed = np.arange(max(self._block + 1, block - self._past.shape[1] + 1), block + 1)
        self._past[:, passed % self._past.shape[1]] = np.nan
        self._count, self._covered = np.zeros_like(self._count), np.zeros_like(self._covered)
        self._block = block
        self._expect()

    def _expect(self) -> None:
        """Work out mean and standard deviation of the open block's root."""
        slots = self._past.shape[1]
        back = np.arange(self._guard + 1, slots)
        level = _median(self._past[:, (self._block - back) % slots])
        near = np.arange(-round(_NEAR_S / self._block_s), round(_NEAR_S / self._block_s) + 1)
        back = (np.round(self._period * np.arange(1, _PERIODS + 1))[:, None] + near).ravel().astype(int)
        back = back[(back > self._guard) & (back < slots)]
        season = _median(self._past[:, (self._block - back) % slots])
        days = np.minimum(self._seen // self._period, _PERIODS)
        share = np.where(np.isnan(season), 0.0, days / (days + _SEASON_PRIOR))
        self._mean: Floats = np.nan_to_num(level + share * (np.nan_to_num(season) - level))
        number = self._blocks + _START_BLOCKS
        self._variance: Floats = (self._squares + _START_BLOCKS * _START_VARIANCE) / number
        self._sd: Floats = np.maximum(np.sqrt(self._variance), 1.0)

    def _judgement(self, z: Floats, covered: float) -> CountJudgement:
        size = np.abs(z)
        again = (self._at - self._point_at >= self._cool_down_s) | (size > _ESCALATION * self._point_z)
        point: Bools = (size >= POINT_Z) & again
        self._point_at = np.where(point, self._at, self._point_at)
        self._point_z = np.where(point, size, self._point_z)
        block = np.maximum((self._mean**2 + self._variance) / 4 - 0.375, 1e-6)
        expected = block * covered / self._block_s
        variance = expected + expected**2 * np.maximum((self._variance - 1) / block, 0.002)
        return CountJudgement(expected, variance, z, score_of(z), point)


def _median(values: NDArray[np.float32]) -> Floats:
    """Return the median [series] of values [series, time] that are not NaN; NaN where all are."""
    ordered = np.sort(values, axis=1)  # NaN last
    number = np.maximum(np.sum(~np.isnan(values), axis=1), 1)
    rows = np.arange(len(values))
    median: Floats = (ordered[rows, (number - 1) // 2] + ordered[rows, number // 2]) / np.float64(2)
    return median
