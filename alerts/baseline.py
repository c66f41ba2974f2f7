"""What is normal for each series: the odds of a negative item, and how much it scatters. A column a series."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from alerts.columns import Columns, Counts, Floats, Ints
from alerts.rolling import WINDOWS_MIN

_FORGET_H = 72.0
_SLOW_ITEMS, _SLOWEST = 100.0, 0.1  # with fewer items behind it a series forgets more slowly, up to ten times
_SEASON_FADE = np.float32(np.exp(-1 / 21))  # a day
_WINSOR_SD = 2.0
_PRIOR_ITEMS = 10.0
_SEASON_PRIOR = 44.0
_MARKET_SHARE = 0.2
_FORGET_DISPERSION_MIN = 10 * 24 * 60.0
_START, _FLOOR = 0.02, 0.002
_START_WEIGHT = 800.0  # the starting value counts as known to within 0.05: 1 / 0.05² and, as below, twice that
_CLIP_SD, _CLIP_SCALE, _FAR_SD, _FAR_WEIGHT = 2.5, 1.15, 3.0, 0.1
_HOUR_WINDOW = WINDOWS_MIN.index(60)
_OBSERVED, _EXPECTED = 0, 1


class Baseline(Columns):
    """Odds by decayed counts with the parent's odds as prior; excess dispersion by weighted moments.

    * odds: hours fade with a time constant of 3 days (of up to 30 for a series with few items); each hour's negatives
      are winsorised at 2 sd, so that a surge does not become normal; 10 items at the parent's odds stand behind each
      series.
    * season: a factor an hour of day (UTC), negatives over what the odds alone let one expect in the last 3 weeks, with
      44 expected negatives at the parent's factor behind it (gamma prior; Clayton and Kaldor, Biometrics 1987).
    * dispersion, a window: the mean of (squared residual - what counts alone explain), weighted by how much each
      tells (mean⁴ / variance²), fading over 10 days; residuals clipped at 2.5 sd, and beyond 3 sd they weigh a tenth.
    """

    fields: ClassVar = {
        "negatives": ((), np.float64),
        "others": ((), np.float64),  # each times its hour's factor
        "season": ((2, 24), np.float32),
        "excess": ((len(WINDOWS_MIN),), np.float64),
        "weight": ((len(WINDOWS_MIN),), np.float64),
        "parents": ((), np.int32),  # a parent stands before its parts; -1 has none
    }
    negatives: Floats
    others: Floats
    season: NDArray[np.float32]
    excess: Floats
    weight: Floats
    parents: NDArray[np.int32]

    def __init__(self) -> None:
        super().__init__()
        self._refresh()

    def factor(self, minute: int, columns: Ints | slice = slice(None)) -> Floats:
        """Return the season's factor [series] at a minute, between the middles of hours on a straight line."""
        hour, past = divmod(minute % 1_440 - 30, 60)
        now, later = self._factors[hour % 24, columns], self._factors[(hour + 1) % 24, columns]
        factor: Floats = now + (later - now) * (past / 60)
        return factor.astype(np.float64)

    def mean(self, minute: int, others: Counts, hours: Counts, columns: Ints | slice) -> Floats:
        """Return the negatives expected beside `others` [window, series], which came in clock `hours` [24, series].

        `others` may be of the shorter windows alone: the longest cost most.
        """
        now = self.factor(minute, columns)
        factors = np.stack([now, now, self.factor(minute - 30, columns), now, now][: len(others)])
        table = self._factors[:, columns]
        recent = (minute // 60 - np.arange(4)) % 24
        for window, chosen in ((3, recent), (4, np.arange(24)))[: max(0, len(others) - 3)]:
            weighted = np.einsum("hs,hs->s", table[chosen], hours[chosen]) + 0.5 * now
            factors[window] = weighted / (hours[chosen].sum(0) + 0.5)
        mean: Floats = self.odds[columns] * factors * (others + 0.5)
        return mean

    def size(self, others: Counts, columns: Ints | slice = slice(None)) -> Floats:
        """Return the size of the negative binomial [window, series] beside `others` [window, series]."""
        inverse = 1 / (others + 0.5) + self.dispersion[:, columns] + 1 / (self.behind[columns] + 1.5)
        return np.reciprocal(inverse)

    def learn(self, hour: int, totals: Counts, weights: Floats) -> None:
        """Take in one hour's negatives and others [kind, series], with weights from 0 to 1."""
        observed, others = totals[0].astype(float), totals[1].astype(float)
        factor = self._factors[hour % 24].astype(np.float64)
        mean = self.odds * factor * (others + 0.5)
        inverse = 1 / (others + 0.5) + self.dispersion[_HOUR_WINDOW] + 1 / (self.behind + 1.5)
        sd = np.sqrt(mean + mean**2 * inverse)
        # One item more: else the only negative in a hundred quiet hours would count as a fifth, and odds be too low.
        bounded = weights * np.clip(observed, mean - _WINSOR_SD * sd, mean + _WINSOR_SD * sd + 1)
        season = self.season[:, hour % 24]
        season *= _SEASON_FADE
        season[_OBSERVED] += bounded
        season[_EXPECTED] += weights * self.odds * others
        self._forget()
        self.negatives += bounded
        self.others += weights * factor * others
        self._refresh()

    def observe(self, window: int, observed: Counts, others: Counts, mean: Floats, weights: Floats) -> None:
        """Learn the dispersion of window number `window` from its counts [series], once a window's length."""
        plain = mean + mean**2 * (1 / (others + 0.5) + 1 / (self.behind + 1.5))
        variance = plain + mean**2 * self.dispersion[window]
        residual = np.abs(observed - mean)
        sd = np.sqrt(variance)
        clipped = _CLIP_SCALE * np.minimum(residual, _CLIP_SD * sd)
        tells = weights * np.where(residual > _FAR_SD * sd, _FAR_WEIGHT, 1.0) * mean**2 / variance**2
        fade = np.exp(-WINDOWS_MIN[window] / _FORGET_DISPERSION_MIN)
        self.excess[window] = fade * self.excess[window] + tells * (clipped**2 - plain)
        self.weight[window] = fade * self.weight[window] + tells * mean**2
        self._refresh_dispersion()

    def fade(self, first: int, hours: int) -> None:
        """Let so many hours pass, from the clock's hour `first` on, in which nothing was seen."""
        for hour in range(first, first + hours):
            self.season[:, hour % 24] *= _SEASON_FADE
            self._forget()
        dispersion = np.exp(-hours * 60 / _FORGET_DISPERSION_MIN)
        self.excess *= dispersion
        self.weight *= dispersion
        self._refresh()

    def items(self) -> Floats:
        """Return the decayed number of items that each series' own odds rest on."""
        return self.negatives + self.others

    def append(self, parents: list[int]) -> None:
        """Append a series for each of `parents`, its parent's column."""
        self.grow(len(parents))
        self.parents[self.series - len(parents) :] = parents
        self._refresh()

    def keep(self, columns: Ints) -> None:
        """Keep only these series, in rising order; each one's parent must be among them."""
        moved = np.full(self.series + 1, -1, dtype=np.int32)  # the last entry answers for "no parent"
        moved[columns] = np.arange(len(columns))
        super().keep(columns)
        self.parents[:] = moved[self.parents]
        self._refresh()

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take over what `state` returned."""
        super().restore(state)
        self._refresh()

    def _forget(self) -> None:
        speed = np.clip(self.items() / _SLOW_ITEMS, _SLOWEST, 1.0)
        fade = np.exp(-speed / _FORGET_H)
        self.negatives *= fade
        self.others *= fade

    def _refresh(self) -> None:
        share = np.full(self.series + 1, _MARKET_SHARE)  # the last entry answers for "no parent"
        factors = np.ones((24, self.series + 1), dtype=np.float32)
        level = np.flatnonzero(self.parents < 0)
        while level.size:
            above = self.parents[level]
            negatives = self.negatives[level] + _PRIOR_ITEMS * share[above]
            share[level] = negatives / (negatives + self.others[level] + _PRIOR_ITEMS * (1 - share[above]))
            observed = self.season[_OBSERVED][:, level] + _SEASON_PRIOR * factors[:, above]
            factors[:, level] = observed / (self.season[_EXPECTED][:, level] + _SEASON_PRIOR)
            level = np.flatnonzero(np.isin(self.parents, level))
        self._factors = factors[:, :-1]
        self.share: Floats = share[:-1]
        self.odds: Floats = self.share / (1 - self.share)
        self.behind: Floats = self.negatives + _PRIOR_ITEMS * share[self.parents]
        self._refresh_dispersion()

    def _refresh_dispersion(self) -> None:
        estimate = (self.excess + _START_WEIGHT * _START) / (self.weight + _START_WEIGHT)
        self.dispersion: Floats = np.maximum(estimate, _FLOOR)
