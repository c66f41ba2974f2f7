"""What is normal for each series: the odds of a negative item, and how much it scatters. A column a series."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from alerts.negbin import Floats
from alerts.rolling import WINDOWS_MIN, Ints

Bools = NDArray[np.bool_]

_FORGET_H = 72.0
_WINSOR_SD = 2.0
_PRIOR_ITEMS = 10.0
_MARKET_SHARE = 0.2
_FORGET_DISPERSION_MIN = 10 * 24 * 60.0
_START, _FLOOR = 0.02, 0.002
_START_WEIGHT = 800.0  # the starting value counts as known to within 0.05: 1 / 0.05² and, as below, twice that
_CLIP_SD, _CLIP_SCALE, _FAR_SD, _FAR_WEIGHT = 2.5, 1.15, 3.0, 0.1
_HOUR_WINDOW = WINDOWS_MIN.index(60)
_FIELDS = ("negatives", "others", "excess", "weight", "parents")


class Baseline:
    """Odds by decayed counts with the parent's odds as prior; excess dispersion by weighted moments.

    * odds: hours fade with a time constant of 3 days; each hour's negatives are winsorised at 2 sd, so that a surge
      does not become normal; 10 items at the parent's odds stand behind each series.
    * dispersion, a window: the mean of (squared residual - what counts alone explain), weighted by how much each
      tells (mean⁴ / variance²), fading over 10 days; residuals clipped at 2.5 sd, and beyond 3 sd they weigh a tenth.
    """

    def __init__(self) -> None:
        self.negatives = np.zeros(0)
        self.others = np.zeros(0)
        self.excess = np.zeros((len(WINDOWS_MIN), 0))
        self.weight = np.zeros((len(WINDOWS_MIN), 0))
        self.parents = np.zeros(0, dtype=np.int64)  # a parent stands before its parts; -1 has none
        self._refresh()

    def mean(self, others: Floats | Ints) -> Floats:
        """Return the negatives expected beside `others` [..., series]."""
        mean: Floats = self.odds * (others + 0.5)
        return mean

    def size(self, others: Floats | Ints, window: int) -> Floats:
        """Return the size of the negative binomial [series] beside `others` [series] in window number `window`."""
        size: Floats = 1 / (1 / (others + 0.5) + self.dispersion[window] + 1 / (self.behind + 1.5))
        return size

    def learn(self, totals: Ints) -> None:
        """Take in one hour's negatives and others [2, series]."""
        observed, others = totals.astype(float)
        mean = self.mean(others)
        sd = np.sqrt(mean + mean**2 / self.size(others, _HOUR_WINDOW))
        fade = np.exp(-1 / _FORGET_H)
        # One item more: else the only negative in a hundred quiet hours would count as a fifth, and odds be too low.
        bounded = np.clip(observed, mean - _WINSOR_SD * sd, mean + _WINSOR_SD * sd + 1)
        self.negatives = fade * self.negatives + bounded
        self.others = fade * self.others + others
        self._refresh()

    def observe(self, window: int, observed: Ints, others: Ints) -> None:
        """Learn the dispersion of window number `window` from its counts [series], once a window's length."""
        mean = self.mean(others)
        plain = mean + mean**2 * (1 / (others + 0.5) + 1 / (self.behind + 1.5))
        variance = plain + mean**2 * self.dispersion[window]
        residual = np.abs(observed - mean)
        sd = np.sqrt(variance)
        clipped = _CLIP_SCALE * np.minimum(residual, _CLIP_SD * sd)
        tells = np.where(residual > _FAR_SD * sd, _FAR_WEIGHT, 1.0) * mean**2 / variance**2
        fade = np.exp(-WINDOWS_MIN[window] / _FORGET_DISPERSION_MIN)
        self.excess[window] = fade * self.excess[window] + tells * (clipped**2 - plain)
        self.weight[window] = fade * self.weight[window] + tells * mean**2
        self._refresh_dispersion()

    def fade(self, hours: float) -> None:
        """Let `hours` pass in which nothing was seen."""
        items, dispersion = np.exp(-hours / _FORGET_H), np.exp(-hours * 60 / _FORGET_DISPERSION_MIN)
        self.negatives, self.others = self.negatives * items, self.others * items
        self.excess, self.weight = self.excess * dispersion, self.weight * dispersion
        self._refresh()

    def items(self) -> Floats:
        """Return the decayed number of items that each series' own odds rest on."""
        return self.negatives + self.others

    def grow(self, parents: list[int]) -> None:
        """Append a series for each of `parents`, its parent's column."""
        more = len(parents)
        self.negatives = np.concatenate([self.negatives, np.zeros(more)])
        self.others = np.concatenate([self.others, np.zeros(more)])
        self.excess = np.concatenate([self.excess, np.zeros((len(WINDOWS_MIN), more))], axis=1)
        self.weight = np.concatenate([self.weight, np.zeros((len(WINDOWS_MIN), more))], axis=1)
        self.parents = np.concatenate([self.parents, np.array(parents, dtype=np.int64)])
        self._refresh()

    def keep(self, columns: Ints) -> None:
        """Keep only these series, in rising order; each one's parent must be among them."""
        moved = np.full(len(self.parents) + 1, -1, dtype=np.int64)  # the last entry answers for "no parent"
        moved[columns] = np.arange(len(columns))
        for name in _FIELDS:
            setattr(self, name, getattr(self, name)[..., columns].copy())
        self.parents = moved[self.parents]
        self._refresh()

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return all that was learnt."""
        return {name: getattr(self, name) for name in _FIELDS}

    def restore(self, state: dict[str, NDArray[np.generic]]) -> None:
        """Take over what `state` returned."""
        for name in _FIELDS:
            setattr(self, name, state[name].copy())
        self._refresh()

    def _refresh(self) -> None:
        share = np.full(len(self.negatives) + 1, _MARKET_SHARE)  # the last entry answers for "no parent"
        level = np.flatnonzero(self.parents < 0)
        while level.size:
            prior = share[self.parents[level]]
            negatives = self.negatives[level] + _PRIOR_ITEMS * prior
            share[level] = negatives / (negatives + self.others[level] + _PRIOR_ITEMS * (1 - prior))
            level = np.flatnonzero(np.isin(self.parents, level))
        self.share: Floats = share[:-1]
        self.odds: Floats = self.share / (1 - self.share)
        self.behind: Floats = self.negatives + _PRIOR_ITEMS * share[self.parents]
        self._refresh_dispersion()

    def _refresh_dispersion(self) -> None:
        estimate = (self.excess + _START_WEIGHT * _START) / (self.weight + _START_WEIGHT)
        self.dispersion: Floats = np.maximum(estimate, _FLOOR)
