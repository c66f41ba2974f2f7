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
_HOURS = 24
PARTS = DAYS * PHASES
HOURS_PRIOR, PARTS_PRIOR = 44.0, 30.0
_CHANCE = 4.0  # squared standard errors
PART_H = 4
"""Hours of a part, about."""


def generations(parents: NDArray[np.integer]) -> list[Ints]:
    """Return the columns of series by generation: first those without a parent (-1), then theirs, and so on."""
    age = np.where(parents < 0, 0, -1)
    found: list[Ints] = []
    while (level := np.flatnonzero(age == len(found))).size:
        found.append(level)
        below = (parents >= 0) & (age[parents] == len(found) - 1)
        age[below] = len(found)
    return found


class Season:
    """The factors of all series, from what was observed and expected: [2, hours or parts, series].

    What was worked out is kept until `changed` says that its counts are other ones, since an hour changes one hour of
    the day and one part of the week.

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
        self._parents, self.levels = parents, generations(parents)
        self._priors, self._balanced = priors, balanced
        size = self._parents.size
        self._of_hour: Floats = np.empty((_HOURS, size))  # rows that are in `_known_hours`; likewise of parts
        self._of_part: Floats = np.empty((PARTS, size))
        self._known_hours: set[int] = set()
        self._known_parts: set[int] = set()

    def split(self, slot: Slot) -> tuple[Floats, Floats]:
        """Return the factor [series] of a slot's hour and that of its part."""
        return self._hour(slot.hour), self._part(slot)

    def table(self, slots: Sequence[Slot], columns: slice = slice(None)) -> NDArray[np.float32]:
        """Return the factors [slots, series] of these columns."""
        hours, parts = [slot.hour for slot in slots], [part_of(slot) for slot in slots]
        for slot, part in zip(slots, parts, strict=True):
            if slot.hour not in self._known_hours or part not in self._known_parts:
                self.split(slot)
        table: NDArray[np.float32] = (self._of_hour[hours, columns] * self._of_part[parts, columns]).astype(np.float32)
        return table

    def changed(self, slot: Slot) -> None:
        """The counts of a slot's hour and part are other ones now."""
        self._known_hours.discard(slot.hour)
        self._known_parts.difference_update(self._alike(slot))

    def grown(self, hours: NDArray[np.floating], parts: NDArray[np.floating], parents: NDArray[np.integer]) -> Season:
        """Return the season with series appended: they have counted nothing, and have their parents' factors."""
        before = self._parents.size
        season = Season(hours, parts, parents, self._priors, balanced=self._balanced)
        for grown, kept in ((season._of_hour, self._of_hour), (season._of_part, self._of_part)):
            grown[:, :before] = kept
            for column in range(before, parents.size):  # a parent stands before its parts
                grown[:, column] = grown[:, parents[column]] if parents[column] >= 0 else 1.0
        season._known_hours, season._known_parts = self._known_hours, self._known_parts
        return season

    def taken(
        self,
        hours: NDArray[np.floating],
        parts: NDArray[np.floating],
        parents: NDArray[np.integer],
        columns: Ints,
    ) -> Season:
        """Return the season of these columns alone."""
        season = Season(hours, parts, parents, self._priors, balanced=self._balanced)
        season._of_hour, season._of_part = self._of_hour[:, columns], self._of_part[:, columns]
        season._known_hours, season._known_parts = self._known_hours, self._known_parts
        return season

    def _hour(self, hour: int) -> Floats:
        if hour not in self._known_hours:
            self._of_hour[hour] = self._shrunk(self._hours[:, [hour]].astype(np.float64), self._priors[0])[0]
            self._known_hours.add(hour)
        found: Floats = self._of_hour[hour]
        return found

    def _part(self, slot: Slot) -> Floats:
        part = part_of(slot)
        if part not in self._known_parts:
            alike = self._alike(slot)
            self._of_part[alike.start : alike.stop : alike.step] = self._of_parts(alike)
            self._known_parts.update(alike)
        found: Floats = self._of_part[part]
        return found

    def _alike(self, slot: Slot) -> range:
        """Return the parts whose factors hang together with that of a slot's part."""
        part = part_of(slot)
        return range(slot.phase, PARTS, PHASES) if self._balanced else range(part, part + 1)

    def _of_parts(self, parts: range) -> Floats:
        counts = self._parts[:, parts.start : parts.stop : parts.step].astype(np.float64)
        if not self._balanced:
            return self._shrunk(counts, self._priors[1])
        factors = self._shrunk(counts, self._priors[1], _CHANCE)
        middle = np.sort(factors, axis=0)[DAYS // 2]
        balanced: Floats = np.maximum(factors / middle, np.minimum(factors, 1.0))
        return balanced

    def _shrunk(self, counts: Floats, prior: float, chance: float = 0.0) -> Floats:
        factors = np.ones((counts.shape[1], counts.shape[2] + 1))  # the last entry answers for "no parent"
        for level in self.levels:
            above = factors[:, self._parents[level]]
            observed, expected = counts[0][:, level], counts[1][:, level]
            usual = expected * above
            beyond = observed - usual
            if chance:
                surprise = beyond**2 / np.maximum(usual, 1e-9)
                beyond *= np.maximum(0.0, 1 - chance / np.maximum(surprise, 1e-9))  # what is believed of it
            factors[:, level] = above + beyond / (expected + prior)
        return factors[:, :-1]


def part_of(slot: Slot) -> int:
    """Return the number of a slot's part of the week."""
    return slot.day * PHASES + slot.phase


def parts_fade(weeks: float) -> float:
    """Return what is left of a part after one hour of it, if it forgets in so many weeks."""
    return float(np.exp(-1 / (PART_H * weeks)))
