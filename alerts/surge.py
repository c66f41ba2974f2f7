"""The detector: more negative items than the other items of a series let one expect.

In windows of 5, 15, 60 and 240 minutes that end now, X negatives stand beside O others (neutral and positive). Copies
of a story count in neither. Given O, X is negative binomial with mean q·(O + ½) and
1/size = 1/(O + ½) + c + 1/(A + 3/2): q the odds of a negative, learnt from hours that ended at least 4 h ago; A the
negatives behind q; c what the series scatters beyond that (`alerts.baseline`). The signed root of the deviance is the
window's z; the largest z of the windows is judged.

Conditioning on the others makes a burst of volume with the usual share no surge. It is a conditional binomial test
written by odds, with the uncertainty of both the level and the odds in the variance.

What it assumes: items are independent given the baseline, apart from the excess c; the model's errors are stable
(a model that changes moves all odds at once and needs the warm-up again); copies were recognised; the odds of a series
drift over days, not hours: a share that swings with the hour of day goes into c and makes the test duller. A p-value
is for one window of one series at one minute: nothing is corrected here for many series, windows and minutes, which
is why the threshold is as high as it is.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from alerts.baseline import Baseline
from alerts.negbin import central_interval, signed_root, upper_tail
from alerts.rolling import COPIES, NEGATIVES, OTHERS, WINDOWS_MIN, Rolling
from alerts.series import parent
from alerts.settings import SurgeSettings
from alerts.windows import COPY, NEGATIVE, Count

State = Literal["surging", "elevated", "calm", "warming up"]

CALM_Z = 1.75
"""An episode is calm while `recent_z` is below this."""
_NEAR_Z = 0.25
_RECENT = len(WINDOWS_MIN) - 1  # all windows but the longest tell whether a surge goes on
_SNAPSHOT_VERSION = 2
_KINDS = {NEGATIVE: NEGATIVES, COPY: COPIES}
_ORPHAN = -1


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """One series at one minute, in the window that shows the most.

    `low` and `high` hold the middle 95 % of what was expected. `recent_z` is the largest z of the windows of 5, 15 and
    60 minutes, which tell whether a surge goes on. `share` is the baseline's share of negatives,
    `history` the (decayed) number of the series' own items behind it; with few, its parent's share stands in.
    """

    series: str
    minute: int
    state: State
    window_min: int
    observed: int
    others: int
    copies: int
    expected: float
    low: int
    high: int
    p_value: float
    z: float
    recent_z: float
    share: float
    history: float


class SnapshotError(ValueError):
    """A snapshot was not written by this version of the detector."""


class _Snapshot(msgspec.Struct, frozen=True):
    version: int
    minute: int
    hours: int
    last_hour: int
    learnt: int
    names: list[str]
    arrays: dict[str, tuple[str, list[int], bytes]]


class Detector:
    """Judges all series each minute. One thread; about 4 kB a series, twice that while a snapshot is made.

    `update` must be called for each minute in order; `skip_to` jumps over a long time without items.
    """

    def __init__(self, settings: SurgeSettings | None = None) -> None:
        self._settings = settings or SurgeSettings()
        self._names: list[str] = []
        self._columns: dict[str, int] = {}
        self._reset(0)

    @property
    def minute(self) -> int:
        """The last minute judged (Unix time // 60); 0 before the first."""
        return self._rolling.minute

    @property
    def tracked(self) -> int:
        """The number of series."""
        return len(self._columns)

    @property
    def refused(self) -> int:
        """Counts left out so far because `max_series` were tracked already."""
        return self._refused

    @property
    def watched(self) -> list[str]:
        """The series that an open alert is about."""
        return [self._names[column] for column in np.flatnonzero(self._watched)]

    def warming_up(self) -> str:
        """Say what history is still missing before anything can be judged; empty when there is enough."""
        if not self._hours:
            return "nothing was counted yet"
        settings = self._settings
        hours = self._hours - 1  # the last is under way
        if hours < settings.warm_up_h:
            return f"{hours} of {settings.warm_up_h} hours with items"
        if self._learnt < settings.warm_up_items:
            return f"{self._learnt} of {settings.warm_up_items} items of history"
        return ""

    def update(self, minute: int, counts: Mapping[Count, int]) -> list[Judgement]:
        """Go on to `minute`, the one after the last, take in what arrived in it, and judge.

        `counts` is the bucket of that arrival minute. Returned are the series that surge and got a negative item in
        this minute, and all that are watched. A series that would surge without enough history is "warming up".
        """
        if not self.minute:
            self._reset(minute - 1)
        if minute != self.minute + 1:
            raise ValueError(f"minute {minute} does not follow {self.minute}")
        totals = self._rolling.advance()
        if totals is not None:
            self._learnt += int(totals[:, :1].sum())  # the market is the first column, when there is one
            self._baseline.learn(totals)
        if minute % 1440 == 0:
            self._forget()  # before columns are named, since it moves them
        touched = self._take_in(counts)
        for at, window in enumerate(WINDOWS_MIN):
            if minute % window == 0 and self.tracked:
                sums = self._rolling.sums[:, at]
                self._baseline.observe(at, sums[NEGATIVES], sums[OTHERS])
        return self._judge(touched)

    def skip_to(self, minute: int) -> None:
        """Let the time up to `minute` pass without items; for gaps longer than the longest window."""
        if self.minute and minute > self.minute:
            # What waits for its guard to end is learnt first, as it would have been.
            for slot in range(self._rolling.hours.shape[1]):
                hour = (self.minute // 60 + 1 + slot) % self._rolling.hours.shape[1]
                totals = self._rolling.hours[:, hour]
                self._learnt += int(totals[:, :1].sum())
                self._baseline.learn(totals)
            hours = minute // 60 - self.minute // 60 - self._rolling.hours.shape[1]
            self._baseline.fade(max(0, hours))
            self._rolling.clear(minute)
            self._forget()

    def watch(self, series: str) -> None:
        """An alert was opened on `series`: judge it each minute from now on."""
        self._watched[self._columns[series]] = True

    def release(self, series: str) -> None:
        """The alert is closed: only windows that begin after the calm before this minute can open another."""
        column = self._columns[series]
        self._watched[column] = False
        self._since[column] = self.minute - self._settings.calm_min

    def judge(self, series: str) -> Judgement | None:
        """Return how a series stands at the last minute; None when it is not tracked."""
        column = self._columns.get(series)
        return None if column is None else self._judgements(np.array([column]), always=True)[0]

    def snapshot(self) -> bytes:
        """Return all state, compressed."""
        arrays: dict[str, NDArray[np.generic]] = {
            "ring": self._rolling.ring,
            "sums": self._rolling.sums,
            "hours": self._rolling.hours,
            "watched": self._watched,
            "since": self._since,
            **self._baseline.state(),
        }
        packed = {name: (a.dtype.str, list(a.shape), a.tobytes()) for name, a in arrays.items()}
        state = _Snapshot(
            _SNAPSHOT_VERSION, self.minute, self._hours, self._last_hour, self._learnt, self._names, packed
        )
        return zlib.compress(msgspec.msgpack.encode(state), level=1)

    def restore(self, snapshot: bytes) -> None:
        """Take over what `snapshot` returned, to the bit.

        Raises:
            SnapshotError: it is damaged or of another version.
        """
        try:
            state = msgspec.msgpack.decode(zlib.decompress(snapshot), type=_Snapshot)
            if state.version != _SNAPSHOT_VERSION:
                raise SnapshotError(f"the snapshot has version {state.version}, this detector {_SNAPSHOT_VERSION}")
            arrays = {
                name: np.frombuffer(raw, np.dtype(kind)).reshape(shape).copy()
                for name, (kind, shape, raw) in state.arrays.items()
            }
            self._reset(state.minute)
            self._rolling.ring, self._rolling.sums = arrays["ring"], arrays["sums"]
            self._rolling.hours = arrays["hours"]
            self._watched, self._since = arrays["watched"], arrays["since"]
            self._baseline.restore(arrays)
        except (zlib.error, msgspec.MsgspecError, ValueError, TypeError, KeyError) as exc:
            raise exc if isinstance(exc, SnapshotError) else SnapshotError(f"not a snapshot: {exc}") from exc
        self._names, self._learnt = list(state.names), state.learnt
        self._hours, self._last_hour = state.hours, state.last_hour
        self._columns = {name: column for column, name in enumerate(self._names)}

    def _reset(self, minute: int) -> None:
        self._rolling, self._baseline = Rolling(minute), Baseline()
        self._names, self._columns = [], {}
        self._watched = np.zeros(0, dtype=np.bool_)
        self._since = np.zeros(0, dtype=np.int64)
        self._hours, self._last_hour = 0, -1  # hours with items: one item with a wrong time is no history
        self._learnt = 0
        self._refused = 0

    def _take_in(self, counts: Mapping[Count, int]) -> NDArray[np.int64]:
        """Add the counts; return the columns that got a negative item."""
        if not counts:
            return np.zeros(0, dtype=np.int64)
        if self.minute // 60 != self._last_hour:
            self._hours, self._last_hour = self._hours + 1, self.minute // 60
        self._track({series for series, _, _ in counts})
        rows = [
            (_KINDS.get(sentiment, OTHERS), minute, self._columns.get(series, _ORPHAN), count)
            for (series, minute, sentiment), count in counts.items()
        ]
        kinds, minutes, columns, numbers = np.array(rows, dtype=np.int64).T
        known = columns != _ORPHAN
        self._refused += int(numbers[~known].sum())
        kinds, minutes, columns, numbers = kinds[known], minutes[known], columns[known], numbers[known]
        self._rolling.add(kinds, minutes, columns, numbers)
        return np.unique(columns[kinds == NEGATIVES])

    def _track(self, names: set[str]) -> None:
        """Begin to track what is new, parents first, as far as `max_series` allows."""
        wanted: dict[str, None] = {}
        for name in sorted(names - self._columns.keys()):
            line = [name]
            while (above := parent(line[-1])) is not None:
                line.append(above)
            wanted |= dict.fromkeys(reversed(line))
        room = self._settings.max_series - self.tracked
        new = [name for name in wanted if name not in self._columns][: max(0, room)]
        if not new:
            return
        for name in new:
            self._columns[name] = len(self._names)
            self._names.append(name)
        self._rolling.grow(len(new))
        self._baseline.grow([self._columns[above] if (above := parent(name)) else -1 for name in new])
        self._watched = np.concatenate([self._watched, np.zeros(len(new), dtype=np.bool_)])
        self._since = np.concatenate([self._since, np.zeros(len(new), dtype=np.int64)])

    def _forget(self) -> None:
        """Drop the series that nothing was heard of for so long that nothing was learnt is left."""
        idle = (self._baseline.items() < 0.05) & ~self._rolling.hours.any(axis=(0, 1)) & ~self._watched
        idle &= ~self._rolling.sums.any(axis=(0, 1))
        needed = set[str]()
        for column in np.flatnonzero(~idle):
            line: str | None = self._names[column]
            while line is not None and line not in needed:
                needed.add(line)
                line = parent(line)
        if len(needed) == self.tracked:
            return
        kept = np.array([column for column, name in enumerate(self._names) if name in needed], dtype=np.int64)
        self._names = [self._names[column] for column in kept]
        self._columns = {name: column for column, name in enumerate(self._names)}
        self._rolling.keep(kept)
        self._baseline.keep(kept)
        self._watched, self._since = self._watched[kept], self._since[kept]

    def _judge(self, touched: NDArray[np.int64]) -> list[Judgement]:
        watched = np.flatnonzero(self._watched)
        fresh = touched[~self._watched[touched]]
        return self._judgements(watched, always=True) + self._judgements(fresh, always=False)

    def _judgements(self, columns: NDArray[np.int64], *, always: bool) -> list[Judgement]:
        if not columns.size:
            return []
        settings, baseline = self._settings, self._baseline
        sums = self._rolling.sums[:, :, columns]
        observed, others = sums[NEGATIVES], sums[OTHERS]
        mean = baseline.odds[columns] * (others + 0.5)
        inverse = 1 / (others + 0.5) + baseline.dispersion[:, columns] + 1 / (baseline.behind[columns] + 1.5)
        z = signed_root(observed.astype(float), mean, 1 / inverse)
        # Windows that reach into an earlier episode are left out, and so are those with too few negatives.
        usable = self.minute - np.array(WINDOWS_MIN)[:, None] >= self._since[columns]
        usable &= observed >= settings.minimum_count
        judged = np.where(usable, z, -np.inf)
        most = judged.max(axis=0)
        surging = most >= settings.threshold_z
        # Of windows that show about as much, the shortest says best what happened.
        near = judged >= np.maximum(most - _NEAR_Z, np.minimum(most, settings.threshold_z))
        best = np.where(np.isfinite(most), near.argmax(axis=0), z.argmax(axis=0))
        recent = z[:_RECENT].max(axis=0)
        cold = bool(self.warming_up())
        found = []
        for at in np.flatnonzero(surging | always):
            window, column = int(best[at]), int(columns[at])
            m, size, x = float(mean[window, at]), float(1 / inverse[window, at]), int(observed[window, at])
            low, high = central_interval(m, size)
            state: State = "surging" if surging[at] else "calm" if recent[at] < CALM_Z else "elevated"
            found.append(
                Judgement(
                    series=self._names[column],
                    minute=self.minute,
                    state="warming up" if cold else state,
                    window_min=WINDOWS_MIN[window],
                    observed=x,
                    others=int(others[window, at]),
                    copies=int(sums[COPIES, window, at]),
                    expected=m,
                    low=low,
                    high=high,
                    p_value=upper_tail(x, m, size),
                    z=float(z[window, at]),
                    recent_z=float(recent[at]),
                    share=float(baseline.share[column]),
                    history=float(baseline.items()[column]),
                )
            )
        return found
