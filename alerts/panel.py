"""All series side by side as columns, without names: counts in, strengths out. `alerts.surge` gives them names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from alerts.baseline import Baseline
from alerts.columns import Bools, Columns, Counts, Floats, Ints
from alerts.judgement import CALM_Z
from alerts.negbin import signed_root
from alerts.rolling import COPIES, GUARD_H, NEGATIVES, OTHERS, WINDOWS_MIN, Arrivals, Rolling
from alerts.sequential import Heard, Sequential
from alerts.sessions import Sessions
from alerts.volume import Volume

_HOUR_WINDOW = WINDOWS_MIN.index(60)
_HOURS = np.array(WINDOWS_MIN[: _HOUR_WINDOW + 1])[:, None] / 60
"""The lengths of the windows up to an hour, in hours."""
_LAST = len(WINDOWS_MIN) - 1
_BY_LENGTH = np.array([0.0, 0.2, 0.45, 0.75, 0.9, 1.0, 1.0])[:, None]
"""What the z of a window counts for beyond itself: a long one seldom shows anything new, so that its z is rarer ..."""
_FULL_Z = 2.5  # ... from a z that is not calm, in full at this one; the further out, the less looks move a tail
_FULL_RATE = 2.0  # ... and the fewer items a minute a series has: short windows then seldom show anything either
_NEAR_Z = 0.25
_DUE_ITEMS, _LACKING = 20.0, 1 / 3  # of so many due in a window, less than this part is there: items lack
_PARTS_DUE = 3.0  # ... and of what it contains, where so many are due in an hour
_EPISODE_WEIGHT = 0.1
_EPISODE_MIN = 1_440  # an episode that lasts longer is on its way to be normal, and learnt from in full


class Strengths(msgspec.Struct, frozen=True):
    """How some series stand; arrays [window, series], or [series].

    `shown` is the largest z of the `usable` windows, each with what its length `adds`; `strength` the larger of that
    and of the sequential statistic; `best` the window that shows most. `recent` are the windows that tell whether a
    surge goes on, `recent_z` and `recent_strength` the largest z of theirs, without and with what its length adds.
    """

    observed: Counts
    others: Counts
    copies: Counts
    mean: Floats
    size: Floats
    z: Floats
    usable: Bools
    adds: Floats
    shown: Floats
    strength: Floats
    best: NDArray[np.intp]
    recent: Bools
    recent_z: Floats
    recent_strength: Floats


def shown(z: Floats, adds: Floats) -> Floats:
    """Return what windows with these z, to which their lengths add so much, show on the scale of strength."""
    part = np.clip((z - CALM_Z) / (_FULL_Z - CALM_Z), 0.0, 1.0)
    return z + adds * part * (_FULL_Z / np.maximum(z, _FULL_Z))


class Episodes(Columns):
    """Which series an open alert is about.

    Bit h of `marked` stands for the hour of day h (UTC) of the last 24 in which an episode fell.
    """

    fields: ClassVar = {
        "opened": ((), np.int32),  # the minute; 0 when none is open
        "since": ((), np.int32),  # windows that begin before it are not looked at
        "marked": ((), np.uint32),
        "window": ((), np.int32),  # number of the window that showed most when it opened
        "lacked": ((), np.int32),  # the last minute at which most of its items lacked
    }
    opened: Counts
    since: Counts
    marked: NDArray[np.uint32]
    window: Counts
    lacked: Counts


class Panel:
    """The detector's state, a column a series.

    A minute is three calls: `advance`, then, if need be, `append` or `keep`, then `take_in`.
    """

    def __init__(self, minute: int, sessions: Sessions | None = None) -> None:
        """Begin after `minute`; `sessions` is the clock that seasons go by, UTC without one."""
        sessions = sessions or Sessions()
        self.rolling = Rolling(minute)
        self.baseline = Baseline(sessions, minute // 60)
        self.sequential = Sequential()
        self.volume = Volume(sessions, minute // 60)
        self.episodes = Episodes()
        self._parts: tuple[Columns, ...] = (
            self.rolling,
            self.baseline,
            self.sequential,
            self.volume,
            self.episodes,
        )

    @property
    def minute(self) -> int:
        """The minute under way."""
        return self.rolling.minute

    @property
    def series(self) -> int:
        """The number of series."""
        return self.rolling.series

    def advance(self) -> Counts | None:
        """Go on to the next minute; at a full hour learn from the one that ended 4 h ago, and return its counts."""
        totals = self.rolling.advance()
        if totals is not None:
            self.baseline.hour = self.volume.hour = self.minute // 60
            self._learn(GUARD_H + 1)
            self.episodes.marked &= np.uint32(~(1 << self.minute // 60 % 24) & 0xFFFFFFFF)
        return totals

    def take_in(self, arrivals: Arrivals) -> None:
        """Take in what arrived in this minute."""
        self.rolling.add(arrivals)
        returned = self.volume.pass_minute(arrivals.heard)
        if returned.size:
            self.baseline.hear_again(self.minute, returned)
        odds = self.baseline.odds * self.baseline.factor(self.minute)
        self._add_up(odds[None], self.rolling.sums[OTHERS, None, _HOUR_WINDOW], {0: arrivals})
        if arrivals.columns.size and self._may_lack():
            lacking = self._lacking()
            self.episodes.lacked[lacking] = self.minute
            self.sequential.r[:, lacking] = 0
        if self.minute % WINDOWS_MIN[0] == 0:
            self._observe()
        running = self._young()
        self.episodes.marked[running] |= np.uint32(1 << self.minute // 60 % 24)

    def rest(self, minute: int, calm: Mapping[int, Arrivals]) -> None:
        """Go on to `minute` of the same hour, through minutes without negative items in which no episode is open.

        It is what `advance` and `take_in` do, for several minutes at once; `calm` is what arrives in minutes with
        others or copies.
        """
        first, minutes = self.minute + 1, minute - self.minute
        arrivals = {each - first: brought for each, brought in calm.items()}  # by row
        if arrivals and (self._may_lack() or self._may_return(arrivals, minutes)):
            self._rest_singly(minute, calm)
            return
        others, others_of_hour = np.empty((minutes, self.series)), self.rolling.sums[OTHERS, _HOUR_WINDOW]
        for at in range(minutes):
            self.rolling.advance()
            if at in arrivals:
                self.rolling.add(arrivals[at])
            others[at] = others_of_hour
            if (first + at) % WINDOWS_MIN[0] == 0:
                self._observe()
        self.volume.pass_minutes(minutes, {at: brought.heard for at, brought in arrivals.items()})
        # The odds, and the dispersion of an hour, are as before them all.
        self._add_up(self.baseline.odds * self.baseline.factors(first, minutes), others, arrivals)

    def _rest_singly(self, minute: int, calm: Mapping[int, Arrivals]) -> None:
        """Do what `rest` does, minute by minute where something arrives: a silence may end, or most items lack."""
        for each, brought in calm.items():
            if each - 1 > self.minute:
                self.rest(each - 1, {})
            self.advance()
            self.take_in(brought)
        if minute > self.minute:
            self.rest(minute, {})

    def _may_return(self, arrivals: Mapping[int, Arrivals], minutes: int) -> bool:
        """Say whether what arrives in so many minutes may end a silence."""
        heard = np.concatenate([brought.heard for brought in arrivals.values()])
        return self.volume.may_return(heard, minutes)

    def _add_up(self, odds: Floats, others: Counts | Floats, arrivals: Mapping[int, Arrivals]) -> None:
        """Give minutes [minute, series] to the sequential statistic: odds, others of the hour, by row what arrived."""
        heard: dict[int, Heard] = {}
        for at, (kinds, _, columns, counts) in arrivals.items():
            arrived = np.zeros((3, self.series), dtype=np.int64)
            np.add.at(arrived, (kinds, columns), counts)
            told = np.flatnonzero(arrived[NEGATIVES] + arrived[OTHERS])
            heard[at] = Heard(told, arrived[NEGATIVES, told], arrived[OTHERS, told])
        scatter = self.baseline.dispersion[_HOUR_WINDOW] + self.baseline.uncertainty
        spread = 1 + odds + scatter * (odds * (others + 0.5))
        self.sequential.update_many(odds, spread, self.volume.rate(), heard)

    def assess(
        self, columns: Ints, threshold_z: float | Floats, minimum_count: int | Ints, windows: Bools | None = None
    ) -> Strengths:
        """Return how the series stand; a window with fewer than `minimum_count` negatives shows nothing.

        The limits are for all, or one for each of `columns`; `windows` [window, series] are those looked at. What adds
        up over many windows counts where the longest is.
        """
        sums = self.rolling.sums[:, :, columns]
        observed, others = sums[NEGATIVES], sums[OTHERS]
        mean = self.baseline.mean(self.minute, others, self.rolling.hours[OTHERS][:, columns], columns)
        lacked = self.episodes.lacked[columns]
        usual = self._usual_negatives(columns) * (lacked >= self.minute - WINDOWS_MIN[_HOUR_WINDOW])
        mean[: len(usual)] = np.maximum(mean[: len(usual)], usual)
        size = self.baseline.size(others, columns)
        z = signed_root(observed.astype(float), mean, size)
        # Windows that reach into an earlier episode are left out, and so are those with too few negatives.
        usable = self.minute - np.array(WINDOWS_MIN)[:, None] >= self.episodes.since[columns]
        usable &= observed >= minimum_count
        summed = observed[_LAST] >= minimum_count
        beyond = _HOUR_WINDOW + 1  # what is usual there is not known
        usable[beyond:] &= self.minute - np.array(WINDOWS_MIN[beyond:])[:, None] >= lacked
        if windows is not None:
            usable &= windows
            summed &= windows[_LAST]
        adds = _BY_LENGTH * np.minimum(self.volume.rate(columns) / _FULL_RATE, 1.0)
        judged = np.where(usable, shown(z, adds), -np.inf)
        most = judged.max(axis=0)
        # Where windows see much, what adds up sees no more, and alarms beside them: it counts for less.
        sequential = np.where(summed, self.sequential.z(columns) - adds[_LAST], -np.inf)
        strength = np.maximum(most, sequential)
        # Of windows that show about as much, the shortest says best what happened.
        near = judged >= np.maximum(most - _NEAR_Z, np.minimum(most, threshold_z))
        best = np.where(np.isfinite(most), near.argmax(axis=0), z.argmax(axis=0))
        recent = self._recent(columns)
        return Strengths(
            observed=observed,
            others=others,
            copies=sums[COPIES],
            mean=mean,
            size=size,
            z=z,
            usable=usable,
            adds=adds,
            shown=most,
            strength=strength,
            best=best,
            recent=recent,
            recent_z=np.where(recent, z, -np.inf).max(axis=0),
            recent_strength=np.where(recent, shown(z, adds), -np.inf).max(axis=0),
        )

    def _may_lack(self) -> bool:
        """Say whether so many items are due in this hour that a lack of them can be seen."""
        return bool((self.volume.due()[self.volume.roots] >= _DUE_ITEMS).any())

    def _lacking(self) -> Bools:
        """Say of which series a part of the feeds seems to be silent: most of the items that were due are not there.

        Those that lack may be the calm ones. The others then say too little of how many negatives to expect: within
        the hour at least the usual number is, longer windows wait until they begin after it. What contains all others
        tells of it; one company has its lulls.
        """
        due, roots = self.volume.due(), self.volume.roots
        seen = self.rolling.sums[:, : _HOUR_WINDOW + 1, roots].sum(axis=0)  # copies too, as in what is due
        lacks = (due[roots] * _HOURS >= _DUE_ITEMS) & (seen < _LACKING * due[roots] * _HOURS)
        lacking = np.zeros(self.series, dtype=np.bool_)
        lacking[roots] = lacks.any(axis=0)
        found: Bools = self.volume.with_parts(lacking) & (due >= _PARTS_DUE)
        return found

    def _usual_negatives(self, columns: Ints) -> Floats:
        """Return the usual negatives [window up to an hour, series]."""
        odds = self.baseline.odds[columns] * self.baseline.factor(self.minute, columns)
        usual: Floats = _HOURS * self.volume.due()[columns] * odds / (1 + odds)
        return usual

    def open(self, columns: Ints, windows: NDArray[np.intp]) -> None:
        """An episode begins, shown by these windows; little is learnt from its hours and the one before."""
        self.episodes.window[columns] = windows
        self.episodes.opened[columns] = self.minute
        for hour in (self.minute // 60 - 1, self.minute // 60):
            self.episodes.marked[columns] |= np.uint32(1 << hour % 24)

    def close(self, columns: Ints, calm_min: int) -> None:
        """An episode has ended: only windows that begin in the calm before this minute can show another."""
        self.episodes.opened[columns] = 0
        self.episodes.window[columns] = 0
        self.episodes.since[columns] = self.minute - calm_min
        self.sequential.r[:, columns] = 0

    def jump(self, minute: int) -> Counts:
        """Go on to `minute`, a time without items that is longer than all windows; return the counts learnt from."""
        learnt = np.zeros((3, self.series), dtype=np.int32)
        for ago in range(GUARD_H, -1, -1):
            learnt += self.rolling.hour(ago)
            self._learn(ago)
        first, hours = self.minute // 60 + 1, max(0, minute // 60 - self.minute // 60 - GUARD_H - 1)
        self.volume.silent_min += minute - self.minute
        self.baseline.hour = minute // 60
        self.baseline.fade(first, hours)
        self.volume.fade(first, hours)
        self.volume.turn(minute // 60)
        self.rolling.clear(minute)
        self.sequential.r[:] = 0
        self.episodes.marked[:] = 0
        return learnt

    def append(self, parents: list[int]) -> None:
        """Append a series for each of `parents`, its parent's column; -1 has none."""
        for part in self._parts:
            if isinstance(part, Baseline | Volume):
                part.append(parents)
            else:
                part.grow(len(parents))

    def keep(self, columns: Ints) -> None:
        """Keep only these series, in rising order; each one's parent must be among them."""
        for part in self._parts:
            part.keep(columns)

    def state(self) -> dict[str, NDArray[Any]]:
        """Return all arrays."""
        parts = {type(part).__name__: part.state() for part in self._parts}
        return {f"{part}.{name}": array for part, state in parts.items() for name, array in state.items()}

    def restore(self, minute: int, state: dict[str, NDArray[Any]]) -> None:
        """Take over what `state` returned at `minute`."""
        self.baseline.hour = self.volume.hour = minute // 60
        for part in self._parts:
            part.restore({name: state[f"{type(part).__name__}.{name}"] for name in part.fields})
        self.rolling.minute = minute

    def _learn(self, ago: int) -> None:
        totals, hour = self.rolling.hour(ago), self.minute // 60 - ago
        in_episode = (self.episodes.marked >> np.uint32(hour % 24)) & np.uint32(1) == 1
        self.baseline.learn(hour, totals, np.where(in_episode, _EPISODE_WEIGHT, 1.0))
        self.volume.learn(hour, totals.sum(axis=0), in_episode)

    def _observe(self) -> None:
        """Learn how much counts scatter from the windows that end now, each once in its length."""
        if not self.series:
            return
        due = 1
        while due < len(WINDOWS_MIN) and self.minute % WINDOWS_MIN[due] == 0:  # only with all shorter ones
            due += 1
        observed, others = self.rolling.sums[[NEGATIVES, OTHERS], :due]
        mean = self.baseline.mean(self.minute, others, self.rolling.hours[OTHERS], slice(None))
        weights = np.where(self._young(), _EPISODE_WEIGHT, 1.0) if self.episodes.opened.any() else 1.0
        self.baseline.observe(observed, others, mean, weights)

    def _young(self) -> Bools:
        opened = self.episodes.opened
        young: Bools = (opened > 0) & (self.minute - opened < _EPISODE_MIN)
        return young

    def _recent(self, columns: Ints) -> Bools:
        """Say which windows [window, series] tell whether a surge goes on: up to an hour, or to that of the alert."""
        recent: Bools = np.arange(len(WINDOWS_MIN))[:, None] <= np.maximum(self.episodes.window[columns], _HOUR_WINDOW)
        return recent
