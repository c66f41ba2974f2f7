"""The detector: more negative items than the other items of a series let one expect.

In windows of 5 minutes to 4 hours and of a day that end now, X negatives stand beside O others (neutral and positive).
Copies of a story count in neither. Given O, X is negative binomial with mean q·(O + ½) and
1/size = 1/(O + ½) + c + 1/(A + 3/2): q the odds of a negative at this hour of day, learnt from hours that ended at
least 4 h ago; A the negatives behind q; c what the series scatters beyond that (`alerts.baseline`). The signed root of
the deviance is the window's z; to that of a long one something is added, since it seldom shows anything new and quiet
series come to it more rarely. Beside the windows, which find what is short and strong, a sequential statistic adds up
what is slow and weak (`alerts.sequential`), of series that are not busy. The strength is the larger of the two.

Conditioning on the others makes a burst of volume with the usual share no surge. It is a conditional binomial test
written by odds, with the uncertainty of both the level and the odds in the variance. Where most of the items that were
due lack, as when a large source is silent, the others say too little: at least the usual number is expected then.

What it assumes: items are independent given the baseline, apart from the excess c; the model's errors are stable
(a model that changes moves all odds at once and needs the warm-up again); copies were recognised; the odds of a series
drift over days, and within a day as they did on the days before. A p-value is for one window of one series at one
minute: nothing is corrected here for many series, windows and minutes, which is why the threshold is as high as it is.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from alerts.columns import Bools, Counts, Floats, Ints
from alerts.judgement import Judgement, State, Tested
from alerts.names import Names
from alerts.negbin import central_interval, upper_tail
from alerts.panel import Panel, Strengths
from alerts.rolling import NEGATIVES, OTHERS, WINDOWS_MIN, Arrivals
from alerts.rules import Rules
from alerts.sessions import Sessions
from alerts.settings import SurgeSettings
from alerts.windows import Count

_FORGET_MIN = 14 * 1_440
_SNAPSHOT_VERSION = 6
_NO_COUNTS: Mapping[int, Mapping[Count, int]] = {}


class SnapshotError(ValueError):
    """A snapshot was not written by this version of the detector."""


_NOTHING_TESTED = Tested(np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.int32))


class _Snapshot(msgspec.Struct, frozen=True):
    version: int
    exchange: str
    minute: int
    hours: int
    last_hour: int
    learnt: int
    names: list[str]
    arrays: dict[str, tuple[str, list[int], bytes]]


class Detector:
    """Judges all series each minute. One thread; below 2 kB a series, twice that while a snapshot is made.

    `update` must be called for each minute in order; `skip_to` jumps over a long time without items.
    """

    def __init__(self, settings: SurgeSettings | None = None) -> None:
        self._settings = settings or SurgeSettings()
        self._sessions = Sessions(self._settings.exchange)
        self.rules: Rules | None = None  # without any the settings hold for every series
        self._reset(0)

    @property
    def minute(self) -> int:
        """The last minute judged (Unix time // 60); 0 before the first."""
        return self._panel.minute

    @property
    def tracked(self) -> int:
        """The number of series."""
        return len(self._names.all)

    @property
    def names(self) -> Sequence[str]:
        """The series, in the order of the panel's columns."""
        return self._names.all

    @property
    def panel(self) -> Panel:
        """What is known of them; for reading."""
        return self._panel

    @property
    def refused(self) -> int:
        """Counts left out so far because `max_series` were tracked already."""
        return self._refused

    @property
    def watched(self) -> list[str]:
        """The series that an open alert is about."""
        return [self._names.all[column] for column in np.flatnonzero(self._panel.episodes.opened)]

    @property
    def tested(self) -> Tested:
        """The series that were judged in the last minute and could have begun to surge."""
        return self._tested

    @property
    def parents(self) -> NDArray[np.int32]:
        """The column [series] of what contains each series; -1 for none."""
        return self._panel.baseline.parents

    def in_episode(self) -> Bools:
        """Say which series [series] an open alert is about, or about what contains them."""
        now: Bools = self._panel.episodes.opened > 0
        if not now.any():
            return now
        opened = np.append(now, False)  # the last entry answers for "no parent"
        above = np.append(self.parents, -1)
        opened |= opened[above]
        opened |= opened[above]
        return opened[:-1]

    def missing(self) -> list[str]:
        """Return the series that are silent though many items were due."""
        return [self._names.all[column] for column in np.flatnonzero(self._panel.volume.missing())]

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
        self._count_learnt(self._panel.advance())
        if minute % 1440 == 0:
            self._forget()  # before columns are named, since it moves them
        arrivals = self._arrivals(minute, counts)
        self._panel.take_in(arrivals)
        watched = np.flatnonzero(self._panel.episodes.opened)
        touched = np.unique(arrivals.columns[arrivals.kinds == NEGATIVES])
        fresh = touched[self._panel.episodes.opened[touched] == 0]
        self._tested = _NOTHING_TESTED
        return self._judgements(watched, always=True) + self._judgements(fresh, always=False)

    def rests_until(self) -> int:
        """Return the minute up to which `rest` can go: the end of the hour, or this minute while an episode is open."""
        if not self.minute or self._panel.episodes.opened.any():
            return self.minute
        return self.minute // 60 * 60 + 59

    def rest(self, minute: int, calm: Mapping[int, Mapping[Count, int]] = _NO_COUNTS) -> None:
        """Go on to `minute`, at most `rests_until`, while nothing negative arrives, as `update` does minute by minute.

        `calm` are the counts of the minutes in which something arrives, in order.

        Raises:
            ValueError: it is no later minute, or beyond that; or `calm` has a negative item or other minutes.
        """
        if not self.minute < minute <= self.rests_until():
            raise ValueError(f"no rest from minute {self.minute} to {minute}: it ends at {self.rests_until()}")
        known: dict[int, Arrivals] = {}
        before = self.minute
        for each, counts in calm.items():
            if not before < each <= minute:
                raise ValueError(f"minute {each} is not in its place between {before} and {minute}")
            before = each
            if not self._names.knows(counts) and each - 1 > self.minute:
                self._panel.rest(each - 1, known)  # what is new begins with its first minute
                known = {}
            known[each] = self._arrivals(each, counts)
            if (known[each].kinds == NEGATIVES).any():
                raise ValueError(f"no rest in minute {each}, which has negative items")
        self._panel.rest(minute, known)
        self._tested = _NOTHING_TESTED

    def skip_to(self, minute: int) -> None:
        """Let the time up to `minute` pass without items; for gaps longer than the longest window."""
        if self.minute and minute > self.minute:
            # What waits for its guard to end is learnt first, as it would have been.
            self._count_learnt(self._panel.jump(minute))
            self._forget()

    def watch(self, series: str) -> None:
        """An alert was opened on `series`: judge it each minute from now on, and learn little from it for a day."""
        columns = self._columns([series])
        self._panel.open(columns, self._panel.assess(columns, *self._limits(columns)).best)

    def release(self, series: str) -> None:
        """The alert is closed: only windows that begin after the calm before this minute can open another."""
        self._panel.close(self._columns([series]), self._settings.calm_min)

    def judge(self, series: str) -> Judgement | None:
        """Return how a series stands at the last minute; None when it is not tracked."""
        return self._judgements(self._columns([series]), always=True)[0] if self.tracks(series) else None

    def threshold_z(self, series: str) -> float:
        """Return the z from which `series` surges, now."""
        if self.rules is None or self.rules.plain:
            return self._settings.threshold_z
        return self.rules.limits(series, self.minute).threshold_z

    def tracks(self, series: str) -> bool:
        """Say whether `series` is tracked."""
        return series in self._names.columns

    def stand(self, series: Sequence[str]) -> Strengths:
        """Return how these series, which are tracked, stand in all windows at the last minute."""
        columns = self._columns(series)
        return self._panel.assess(columns, *self._limits(columns))

    def parts(self, series: str) -> list[str]:
        """Return the series that `series` contains directly: of the market its topics and companies."""
        return self._names.parts(series)

    def settle(self, series: Sequence[str]) -> None:
        """What these series hold is told: only windows that begin after the calm before this minute show anew."""
        columns = self._columns(series)
        self._panel.close(columns[self._panel.episodes.opened[columns] == 0], self._settings.calm_min)

    def snapshot(self) -> bytes:
        """Return all state, compressed."""
        packed = {name: (a.dtype.str, list(a.shape), a.tobytes()) for name, a in self._panel.state().items()}
        exchange, hours = self._sessions.exchange, (self._hours, self._last_hour)
        state = _Snapshot(_SNAPSHOT_VERSION, exchange, self.minute, *hours, self._learnt, self._names.all, packed)
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
            if state.exchange != self._sessions.exchange:
                raise SnapshotError(f"its seasons are by {state.exchange}'s clock, not {self._sessions.exchange}'s")
            arrays = {
                name: np.frombuffer(raw, np.dtype(kind)).reshape(shape)
                for name, (kind, shape, raw) in state.arrays.items()
            }
            self._reset(state.minute)
            self._panel.restore(state.minute, arrays)
        except (zlib.error, msgspec.MsgspecError, ValueError, TypeError, KeyError) as exc:
            raise exc if isinstance(exc, SnapshotError) else SnapshotError(f"not a snapshot: {exc}") from exc
        self._learnt, self._hours, self._last_hour = state.learnt, state.hours, state.last_hour
        self._names = Names(state.names)

    def _reset(self, minute: int) -> None:
        self._panel = Panel(minute, self._sessions)
        self._tested = _NOTHING_TESTED
        self._names = Names()
        self._hours, self._last_hour = 0, -1  # hours with items: one item with a wrong time is no history
        self._learnt = 0
        self._refused = 0

    def _columns(self, series: Sequence[str]) -> Ints:
        return np.array([self._names.columns[name] for name in series], dtype=np.int64)

    def _count_learnt(self, totals: Counts | None) -> None:
        if totals is not None:  # the market is the first column, when there is one
            self._learnt += int(totals[[NEGATIVES, OTHERS], :1].sum())

    def _arrivals(self, minute: int, counts: Mapping[Count, int]) -> Arrivals:
        """Return what the counts of `minute` bring to the columns; begin to track what is new."""
        if counts and minute // 60 != self._last_hour:
            self._hours, self._last_hour = self._hours + 1, minute // 60
        if not self._names.knows(counts):
            room = max(0, self._settings.max_series - self.tracked)
            new = self._names.lacking(counts)[:room]
            if new:
                self._names.append(new)
                self._panel.append(self._names.parents(new))
        arrivals, refused = self._names.arrivals(minute, counts)
        self._refused += refused
        return arrivals

    def _forget(self) -> None:
        """Drop the series that nothing was heard of for two weeks."""
        idle = (self._panel.volume.silent_min >= _FORGET_MIN) & (self._panel.episodes.opened == 0)
        kept = self._names.with_parents(np.flatnonzero(~idle).tolist())
        if len(kept) < self.tracked:
            self._names = Names([self.names[column] for column in kept])
            self._panel.keep(kept)

    def _limits(self, columns: NDArray[np.int64]) -> tuple[float | Floats, int | Ints, Bools | None]:
        """Return the thresholds, least counts and windows looked at of some series."""
        if self.rules is None or self.rules.plain:
            return self._settings.threshold_z, self._settings.minimum_count, None
        found = [self.rules.limits(self.names[column], self.minute) for column in columns]
        return (
            np.array([each.threshold_z for each in found], dtype=np.float64),
            np.array([each.minimum_count for each in found], dtype=np.int64),
            np.array([[window in each.windows_min for each in found] for window in WINDOWS_MIN], dtype=np.bool_),
        )

    def _judgements(self, columns: NDArray[np.intp], *, always: bool) -> list[Judgement]:
        if not columns.size:
            return []
        panel = self._panel
        threshold, counts, windows = self._limits(columns)
        seen = panel.assess(columns, threshold, counts, windows)
        if not always:
            self._tested = Tested(columns, seen.strength, seen.observed[-1])
        surges = seen.strength >= threshold
        added_up = surges & (seen.shown < threshold)
        shown = np.flatnonzero(surges | always)
        if not shown.size:
            return []
        due, coverage = panel.volume.due(), panel.volume.known_hours()
        missing, history = panel.volume.missing(), panel.baseline.items()
        cold = bool(self.warming_up())
        found = []
        for at in shown:
            window, column = int(seen.best[at]), int(columns[at])
            m, size, x = float(seen.mean[window, at]), float(seen.size[window, at]), int(seen.observed[window, at])
            others = int(seen.others[window, at])
            low, high = central_interval(m, size)
            odds = m / (others + 0.5)
            state: State
            if cold:
                state = "warming up"
            elif missing[column]:
                state = "no data"
            elif panel.episodes.opened[column]:
                state = "firing"
            else:
                state = "pending" if surges[at] else "normal"
            found.append(
                Judgement(
                    series=self.names[column],
                    minute=self.minute,
                    state=state,
                    window_min=WINDOWS_MIN[window],
                    observed=x,
                    others=others,
                    copies=int(seen.copies[window, at]),
                    expected=m,
                    low=low,
                    high=high,
                    p_value=upper_tail(x, m, size),
                    z=float(seen.z[window, at]),
                    strength=float(seen.strength[at]),
                    added_up=bool(added_up[at]),
                    recent_z=float(seen.recent_z[at]),
                    recent_strength=float(seen.recent_strength[at]),
                    odds_ratio=x / m,
                    share=odds / (1 + odds),
                    history=float(history[column]),
                    coverage=float(coverage[column]),
                    usual_items=float(due[column]),
                )
            )
        return found
