"""A sequential statistic: evidence for a change of the odds that adds up over minutes and hours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from alerts.columns import Columns, Floats, Ints

GAINS = (1.5, 2.0, 3.0, 5.0, 10.0)
LOG_SCALE = 9.0
"""ln(mean R) that counts as much as a z of `Z_SCALE`."""
Z_SCALE = 3.5
_LOG_MOST = 12.0  # so that a surge that nobody was told of is forgotten when it is over
_IDLE = 0.02
_FULL_RATE = 0.5  # items a minute; a series with fewer is not on the watch all of the time
_LEAST = 3e-4
_GAINS = np.array(GAINS)[:, None]
_LOG_GAINS = np.log(_GAINS)


class Heard(NamedTuple):
    """The series `columns` [n] that got items in a minute, so many `negatives` [n] and `others` [n]."""

    columns: Ints
    negatives: Ints
    others: Ints


_NOBODY: Mapping[int, Heard] = {}


class Sequential(Columns):
    """Shiryaev-Roberts: R ← (1 + R)·Λ a minute, Λ the likelihood ratio of odds `GAINS` times as large; one R a gain.

    Shiryaev, Theory of Probability and its Applications 1963; Roberts, Technometrics 1966. The logarithm of Λ is
    divided by φ, how much more the minute's negatives scatter than a Poisson count. The 1 stands for a surge that may
    begin in this minute; it is less for a series with fewer than 30 items an hour, or the minutes without an item would
    add up to evidence, and a thousand slow series to a false alarm a day.

    >>> sequential = Sequential()
    >>> sequential.grow(1)
    >>> for _ in range(30):
    ...     sequential.update(np.array([2]), np.array([8]), np.array([0.1]), np.array([1.0]), np.array([10.0]))
    >>> bool(sequential.z()[0] > 3.5)
    True
    """

    fields: ClassVar = {"r": ((len(GAINS),), np.float32)}
    r: NDArray[np.float32]

    def update(self, negatives: Ints, others: Ints, odds: Floats, spread: Floats, rate: Floats) -> None:
        """Take in a minute's counts, the odds expected, φ and the usual items a minute; all [series]."""
        heard = np.flatnonzero(negatives + others)
        self.update_many(odds[None], spread[None], rate, {0: Heard(heard, negatives[heard], others[heard])})

    def update_many(self, odds: Floats, spread: Floats, rate: Floats, heard: Mapping[int, Heard] = _NOBODY) -> None:
        """Take in minutes, one a row of `odds` and `spread` [minute, series]; `heard`, by row, are those with items."""
        if not self.series:
            return
        watch = np.minimum(rate / _FULL_RATE, 1)
        begins = np.maximum(watch**2, _LEAST)
        half = np.exp(odds * (-0.5 * _IDLE * watch) / spread)
        # Λ is that to the power 2·(gain - 1): of an exponential function and products, the products are cheap.
        ratios = np.empty((len(odds), len(GAINS), self.series))
        ratios[:, 0] = half
        for at in range(1, 4):  # 1, 2, 4, 8
            np.multiply(ratios[:, at - 1], ratios[:, at - 1], out=ratios[:, at])
        np.multiply(ratios[:, 3] * ratios[:, 3], ratios[:, 1], out=ratios[:, 4])  # 18
        most = np.exp(_LOG_MOST)
        near = self.r.max() > most - len(odds)
        for at, ratio in enumerate(ratios):
            if at in heard:
                columns = heard[at].columns
                gained = _likelihood_ratio(heard[at], odds[at, columns], spread[at, columns], watch[columns])
                risen = (self.r[:, columns] + begins[columns]) * gained
            self.r += begins
            self.r *= ratio
            if near:
                np.minimum(self.r, most, out=self.r)
            if at in heard:
                self.r[:, columns] = np.minimum(risen, most)
                near = near or self.r.max() > most - len(odds)

    def z(self, columns: Ints | slice = slice(None)) -> Floats:
        """Return ln(mean R) [series] on the scale of a window's z."""
        z: Floats = np.log(self.r[:, columns].mean(axis=0, dtype=np.float64) + 1e-300) * (Z_SCALE / LOG_SCALE)
        return z


def _likelihood_ratio(heard: Heard, odds: Floats, spread: Floats, watch: Floats) -> Floats:
    """Return Λ [gain, n] of series that got items."""
    expected = (_GAINS - 1) * odds * (heard.others + _IDLE * watch)
    log = (heard.negatives * _LOG_GAINS - expected) / spread
    ratio: Floats = np.exp(np.minimum(log, 2 * _LOG_MOST))
    return ratio
