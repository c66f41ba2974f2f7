"""A season by hour of day and by part of the week, learnt as far as data carries it.

A factor an hour times a factor a part (day x phase of `alerts.sessions`). Each is observed over expected, with a prior
at the factor of what contains the series (gamma prior; Clayton and Kaldor, Biometrics 1987): a series without a history
has its parent's season, and the first has none.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from alerts.columns import Floats, Ints
from alerts.sessions import PHASES, Slot

DAYS = 7
PARTS = DAYS * PHASES
HOURS_PRIOR, PARTS_PRIOR = 44.0, 30.0
_CHANCE = 4.0  # squared standard errors
PART_H = 4
"""Hours of a part, about."""


def generations(parents: NDArray[np.integer]) -> list[Ints]:
    """Return the columns of series by generation: first those without a parent (-1), then theirs, and so on."""
    found, level = [], np.flatnonzero(parents < 0)
    while level.size:
        found.append(level)
        level = np.flatnonzero(np.isin(parents, level))
    return found


class Season:
    """The factors of all series, from what was observed and expected: [2, hours or parts, series].

    `balanced` is for a season that must not absorb what comes every day: a part counts for what it has beyond the same
    phase of the other days (their median), since what they have in common belongs to the hours; and only as far as it
    is more than chance (positive-part shrinkage; James and Stein, 1961): most series have no week that can be seen.
    """

    def __init__(
        self,
        hours: NDArray[np.floating],
        parts: NDArray[np.floating],
        parents: NDArray[np.integer],
        priors: tuple[float, float],
        *,
        balanced: bool,
    ) -> None:
        self._hours, self._parts = hours, parts
        self._parents, self._levels = parents, generations(parents)
        self._priors, self._balanced = priors, balanced

    def split(self, slot: Slot) -> tuple[Floats, Floats]:
        """Return the factor [series] of a slot's hour and that of its part."""
        return self._of_hours([slot.hour])[0], self._of_phase(slot.phase)[slot.day]

    def table(self, slots: Sequence[Slot]) -> NDArray[np.float32]:
        """Return the factors [slots, series]."""
        hours = dict.fromkeys(slot.hour for slot in slots)
        of_hours = dict(zip(hours, self._of_hours(list(hours)), strict=True))
        of_phase = {phase: self._of_phase(phase) for phase in {slot.phase for slot in slots}}
        table = np.empty((len(slots), self._parents.size), dtype=np.float32)
        for at, slot in enumerate(slots):
            table[at] = of_hours[slot.hour] * of_phase[slot.phase][slot.day]
        return table

    def _of_hours(self, hours: list[int]) -> Floats:
        return self._shrunk(self._hours[:, hours].astype(np.float64), self._priors[0])

    def _of_phase(self, phase: int) -> Floats:
        counts = self._parts[:, phase::PHASES].astype(np.float64)
        if not self._balanced:
            return self._shrunk(counts, self._priors[1])
        factors = self._shrunk(counts, self._priors[1], _CHANCE)
        return np.maximum(factors / np.median(factors, axis=0), np.minimum(factors, 1.0))

    def _shrunk(self, counts: Floats, prior: float, chance: float = 0.0) -> Floats:
        factors = np.ones((counts.shape[1], counts.shape[2] + 1))  # the last entry answers for "no parent"
        for level in self._levels:
            above = factors[:, self._parents[level]]
            beyond = counts[0][:, level] - counts[1][:, level] * above
            surprise = beyond**2 / np.maximum(counts[1][:, level] * above, 1e-9)
            believed = np.maximum(0.0, 1 - chance / np.maximum(surprise, 1e-9))
            factors[:, level] = above + believed * beyond / (counts[1][:, level] + prior)
        return factors[:, :-1]


def part_of(slot: Slot) -> int:
    """Return the number of a slot's part of the week."""
    return slot.day * PHASES + slot.phase


def parts_fade(weeks: float) -> float:
    """Return what is left of a part after one hour of it, if it forgets in so many weeks."""
    return float(np.exp(-1 / (PART_H * weeks)))
