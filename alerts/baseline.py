"""What is normal for each series: the odds of a negative item, and how much it scatters. A column a series."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from alerts.columns import Columns, Counts, Floats, Ints
from alerts.rolling import WINDOWS_MIN
from alerts.season import HOURS_PRIOR, PART_H, PARTS, PARTS_PRIOR, Season, part_of, parts_fade
from alerts.sessions import Sessions, Slot

_FORGET_H = 72.0
_SLOW_ITEMS, _SLOWEST = 100.0, 0.1  # with fewer items behind it a series forgets more slowly, up to ten times
_SEASON_FADE = np.float32(np.exp(-1 / 21))  # a day
_WINSOR_SD, _WINSOR_WEEK_SD = 2.0, 5.0
_PRIOR_ITEMS = 10.0
_WEEK_FADE = parts_fade(6)
_MARKET_SHARE = 0.2
_FORGET_DISPERSION_MIN = 10 * 24 * 60.0
_START, _FLOOR = 0.02, 0.002
_START_WEIGHT = 800.0  # the starting value counts as known to within 0.05: 1 / 0.05² and, as below, twice that
_CLIP_SD, _CLIP_SCALE, _FAR_SD, _FAR_WEIGHT = 2.5, 1.15, 3.0, 0.1
_HALF_WINDOW, _HOUR_WINDOW, _PART_WINDOW = (WINDOWS_MIN.index(window) for window in (30, 60, 240))
_LONG = [(at, min(window // 60 + 1, 24)) for at, window in enumerate(WINDOWS_MIN) if window > 60]
"""Number of each window beyond an hour, and how many clock hours it touches."""
_HELD_H = 25  # the last 24 hours and the next
_LATE_H = 6  # what is older when it comes is not counted
_OBSERVED, _EXPECTED = 0, 1
_DISPERSION_FADES = np.array([np.exp(-window / _FORGET_DISPERSION_MIN) for window in WINDOWS_MIN])[:, None]


class Baseline(Columns):
    """Odds by decayed counts with the parent's odds as prior; excess dispersion by weighted moments.

    * odds: hours fade with a time constant of 3 days (of up to 30 for a series with few items); each hour's negatives
      are winsorised at 2 sd, so that a surge does not become normal; 10 items at the parent's odds stand behind each
      series.
    * season (`alerts.season`): a factor an hour of day, negatives over what was expected in the last 3 weeks, with 44
      expected negatives at the parent's factor behind it; a factor a part of the week from the last 6 weeks, with 50
      behind it. How much a part scatters limits what one tells. Episodes teach the week in full: what comes each Monday
      is usual on Mondays. What comes every day does not enter the week.
    * dispersion, a window: the mean of (squared residual - what counts alone explain), weighted by how much each
      tells (mean⁴ / variance²), fading over 10 days; residuals clipped at 2.5 sd, and beyond 3 sd they weigh a tenth.
    """

    fields: ClassVar = {
        "negatives": ((), np.float64),
        "others": ((), np.float64),  # each times its hour's factor
        "season": ((2, 24), np.float32),
        "week": ((2, PARTS), np.float16),
        "excess": ((len(WINDOWS_MIN),), np.float32),
        "weight": ((len(WINDOWS_MIN),), np.float32),
        "returned": ((), np.int32),  # the minute of the last return from a silence
        "late": ((), np.float16),  # the largest factor of what may have come then
        "parents": ((), np.int32),  # a parent stands before its parts; -1 has none
    }
    negatives: Floats
    others: Floats
    season: NDArray[np.float32]
    week: NDArray[np.float16]
    excess: NDArray[np.float32]
    weight: NDArray[np.float32]
    returned: NDArray[np.int32]
    late: NDArray[np.float16]
    parents: NDArray[np.int32]

    def __init__(self, sessions: Sessions, hour: int) -> None:
        """`hour` is the clock's hour under way (Unix time // 3600)."""
        super().__init__()
        self._sessions = sessions
        self.hour = hour
        self._factors: NDArray[np.float32] = np.zeros((_HELD_H, 0), dtype=np.float32)
        self.dispersion: Floats = np.zeros((len(WINDOWS_MIN), 0))
        self.odds: Floats = np.zeros(0)
        self.uncertainty: Floats = np.zeros(0)
        """What 1/size has for how little is known of the odds: 1/(A + 3/2), A the decayed negatives behind them."""
        self._seasons = self._new_season()
        self._refresh()

    def factor(self, minute: int, columns: Ints | slice = slice(None)) -> Floats:
        """Return the season's factor [series] at a minute, between the middles of hours on a straight line."""
        hour, past = divmod(minute - 30, 60)
        now, later = self._factors[hour % _HELD_H, columns], self._factors[(hour + 1) % _HELD_H, columns]
        factor: Floats = now + (later - now) * (past / 60)
        return factor.astype(np.float64)

    def factors(self, first: int, minutes: int) -> Floats:
        """Return what `factor` does for so many minutes from `first` on [minute, series]."""
        since = np.arange(first - 30, first - 30 + minutes)
        past = (since % 60 / 60).astype(np.float32)[:, None]
        now, later = self._factors[since // 60 % _HELD_H], self._factors[(since // 60 + 1) % _HELD_H]
        return (now + (later - now) * past).astype(np.float64)

    def mean(self, minute: int, others: Counts, hours: Counts, columns: Ints | slice) -> Floats:
        """Return the negatives expected beside `others` [window, series], which came in clock `hours` [24, series].

        `others` may be of the shorter windows alone: the longest cost most.
        """
        now = self.factor(minute, columns)
        factors: Floats = np.empty((len(others), *now.shape))
        factors[:] = now
        for window, middle in ((_HALF_WINDOW, 15), (_HOUR_WINDOW, 30)):
            if window < len(others):
                factors[window] = self.factor(minute - middle, columns)
        table = self._factors[:, columns]
        for window, length in _LONG[: max(0, len(others) - _HOUR_WINDOW - 1)]:
            chosen = minute // 60 - np.arange(length)
            items: Counts | Floats = hours[chosen % 24]
            if length < 24:  # it begins at a quarter of the oldest hour
                part = np.ones((length, 1))
                part[-1] = (3 - minute % 60 // 15) / 4
                items = items * part
            weighted = np.einsum("hs,hs->s", table[chosen % _HELD_H], items) + 0.5 * now
            factors[window] = weighted / (items.sum(0) + 0.5)
        mean: Floats = self.odds[columns] * factors * (others + 0.5)
        return mean

    def size(self, others: Counts, columns: Ints | slice = slice(None)) -> Floats:
        """Return the size of the negative binomial [window, series] beside `others` [window, series]."""
        inverse = 1 / (others + 0.5) + self.dispersion[:, columns] + self.uncertainty[columns]
        return np.reciprocal(inverse)

    def learn(self, hour: int, totals: Counts, weights: Floats) -> None:
        """Take in one hour's negatives and others [kind, series], with weights from 0 to 1."""
        observed, others = totals[0].astype(float), totals[1].astype(float)
        slot = self._sessions.slot(hour)
        of_hour, of_part = self._seasons.split(slot)
        factor = of_hour * of_part
        mean = self.odds * factor * (others + 0.5)
        inverse = 1 / (others + 0.5) + self.dispersion[_HOUR_WINDOW] + self.uncertainty
        sd = np.sqrt(mean + mean**2 * inverse)
        # One item more: else the only negative in a hundred quiet hours would count as a fifth, and odds be too low.
        bounded = weights * np.clip(observed, mean - _WINSOR_SD * sd, mean + _WINSOR_SD * sd + 1)
        usual = self.odds * others
        # The bound of the week is without the week's factor, or what is high on a day would let itself be higher.
        plain = sd * of_hour / factor
        most = self.odds * of_hour * (others + 0.5) + _WINSOR_WEEK_SD * plain
        trust = 1 / (1 + PART_H * self.dispersion[_PART_WINDOW] * usual)
        week = self.week[:, part_of(slot)]
        week[:] = week * _WEEK_FADE + trust * np.stack([np.minimum(observed, most), usual * of_hour])
        season = self.season[:, slot.hour]
        season *= _SEASON_FADE
        season[_OBSERVED] += bounded
        season[_EXPECTED] += weights * usual * of_part
        self._seasons.changed(slot)
        self._forget()
        self.negatives += bounded
        self.others += weights * factor * others
        self._refresh()

    def observe(self, observed: Counts, others: Counts, mean: Floats, weights: Floats | float) -> None:
        """Learn the dispersion of the first windows from their counts [window, series], each once in its length."""
        due = len(observed)
        square = mean**2
        plain = mean + square * (1 / (others + 0.5) + self.uncertainty)
        variance = plain + square * self.dispersion[:due]
        residual = np.abs(observed - mean)
        sd = np.sqrt(variance)
        clipped = _CLIP_SCALE * np.minimum(residual, _CLIP_SD * sd)
        tells = weights * np.where(residual > _FAR_SD * sd, _FAR_WEIGHT, 1.0) * square / variance**2
        fade, excess, weight = _DISPERSION_FADES[:due], self.excess[:due], self.weight[:due]
        excess[:] = fade * excess + tells * (clipped**2 - plain)
        weight[:] = fade * weight + tells * square
        self.dispersion[:due] = self._estimate(excess, weight)

    def fade(self, first: int, hours: int) -> None:
        """Let so many hours pass, from the clock's hour `first` on, in which nothing was seen."""
        for hour in range(first, first + hours):
            slot = self._sessions.slot(hour)
            self.season[:, slot.hour] *= _SEASON_FADE
            self.week[:, part_of(slot)] *= np.float16(_WEEK_FADE)
            self._seasons.changed(slot)
            self._forget()
        dispersion = np.exp(-hours * 60 / _FORGET_DISPERSION_MIN)
        self.excess *= dispersion
        self.weight *= dispersion
        self._refresh()

    def hear_again(self, minute: int, columns: Ints) -> None:
        """After a silence items come, of which some were held back: they may be of any of the last hours."""
        self.returned[columns] = minute
        self.late[columns] = self._factors[(self.hour - np.arange(_LATE_H + 1)) % _HELD_H][:, columns].max(axis=0)
        self._expect_late()

    def items(self) -> Floats:
        """Return the decayed number of items that each series' own odds rest on."""
        return self.negatives + self.others

    def append(self, parents: list[int]) -> None:
        """Append a series for each of `parents`, its parent's column."""
        self.grow(len(parents))
        self.parents[self.series - len(parents) :] = parents
        self._seasons = self._seasons.grown(self.season, self.week, self.parents)
        self._refresh_odds()
        fresh = self._seasons.table(self._held(), slice(self.series - len(parents), None))
        self._factors = np.append(self._factors, fresh, axis=1)
        start = self._estimate(self.excess[:, -len(parents) :], self.weight[:, -len(parents) :])
        self.dispersion = np.append(self.dispersion, start, axis=1)

    def keep(self, columns: Ints) -> None:
        """Keep only these series, in rising order; each one's parent must be among them."""
        moved = np.full(self.series + 1, -1, dtype=np.int32)  # the last entry answers for "no parent"
        moved[columns] = np.arange(len(columns))
        super().keep(columns)
        self.parents[:] = moved[self.parents]
        self._seasons = self._seasons.taken(self.season, self.week, self.parents, columns)
        self._refresh()

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take over what `state` returned."""
        super().restore(state)
        self._seasons = self._new_season()
        self._refresh()

    def _forget(self) -> None:
        speed = np.clip(self.items() / _SLOW_ITEMS, _SLOWEST, 1.0)
        fade = np.exp(-speed / _FORGET_H)
        self.negatives *= fade
        self.others *= fade

    def _new_season(self) -> Season:
        return Season(self.season, self.week, self.parents, (HOURS_PRIOR, PARTS_PRIOR), balanced=True)

    def _refresh(self) -> None:
        self._refresh_odds()
        self._factors = self._seasons.table(self._held())
        self._expect_late()
        self.dispersion = self._estimate(self.excess, self.weight)

    def _held(self) -> list[Slot]:
        """Return the slots of the hours that factors are held of, in their places."""
        held = sorted(range(self.hour - _HELD_H + 2, self.hour + 2), key=lambda hour: hour % _HELD_H)
        return [self._sessions.slot(hour) for hour in held]

    def _refresh_odds(self) -> None:
        share = np.full(self.series + 1, _MARKET_SHARE)  # the last entry answers for "no parent"
        for level in self._seasons.levels:
            above = self.parents[level]
            negatives = self.negatives[level] + _PRIOR_ITEMS * share[above]
            share[level] = negatives / (negatives + self.others[level] + _PRIOR_ITEMS * (1 - share[above]))
        self.odds = share[:-1] / (1 - share[:-1])
        self.uncertainty = 1 / (self.negatives + _PRIOR_ITEMS * share[self.parents] + 1.5)

    def _expect_late(self) -> None:
        """Let the hours between which the factor of a return lies have the largest of what may have come then."""
        columns = np.flatnonzero(self.returned // 60 > self.hour - _HELD_H)
        for step in (0, 1):
            hours = (self.returned[columns] - 30) // 60 + step
            held = (hours > self.hour + 1 - _HELD_H) & (hours <= self.hour + 1)
            place = hours[held] % _HELD_H, columns[held]
            self._factors[place] = np.maximum(self._factors[place], self.late[columns[held]])

    @staticmethod
    def _estimate(excess: NDArray[np.float32], weight: NDArray[np.float32]) -> Floats:
        """Return the dispersion that these sums tell, where they tell little the one that all start with."""
        dispersion: Floats = np.maximum((excess + _START_WEIGHT * _START) / (weight + _START_WEIGHT), _FLOOR)
        return dispersion
