"""How many items a series usually has, so that a silent feed is told from a calm one."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from alerts.columns import Bools, Columns, Counts, Floats, Ints

SILENT_ITEMS = 20.0
"""So many items must have been due since the last one before a series has no data."""
_OUTAGE_ITEMS = 10.0  # an hour without an item in which so many were due teaches nothing
_GIVE_UP_MIN = 3 * 1_440
_FORGET_H, _FORGET_SEASON_H = 240.0, 28 * 24.0
_PRIOR = 10.0
_WINSOR, _WINSOR_ITEMS = 3.0, 3.0
_WEEKDAY, _WEEKEND = 24, 25  # slots of the season behind those of the hours
_ITEMS, _DUE = 0, 1


class Volume(Columns):
    """Items an hour: a level that fades over 10 days times factors of the hour of day (UTC) and of weekend or not.

    An hour counts for three times what was due (and 3 items) at most, so that a burst is not expected again. While
    nothing comes, what would have been due adds up: from 20 items on the series has no data. After three days of that
    the silence is learnt as the new usual.
    """

    fields: ClassVar = {
        "level": ((2,), np.float64),
        "season": ((2, 26), np.float32),
        "missed": ((), np.float32),  # items due since the last one
        "silent_min": ((), np.int32),
    }
    level: Floats
    season: NDArray[np.float32]
    missed: NDArray[np.float32]
    silent_min: NDArray[np.int32]

    def due(self, hour: int) -> Floats:
        """Return the items [series] that are usual in a clock's hour (Unix time // 3600)."""
        due: Floats = self.level[_ITEMS] / np.maximum(self.level[_DUE], 1.0) * self._factor(hour)
        return due

    def rate(self, columns: Ints | slice = slice(None)) -> Floats:
        """Return the usual items a minute [series], all hours taken together."""
        rate: Floats = self.level[_ITEMS, columns] / np.maximum(self.level[_DUE, columns], 24.0) / 60
        return rate

    def missing(self) -> Bools:
        """Return which series have no data."""
        silent: Bools = (self.missed >= SILENT_ITEMS) & (self.silent_min <= _GIVE_UP_MIN)
        return silent

    def known_hours(self) -> Floats:
        """Return the part [series] of the day's hours of which items are known."""
        known: Floats = (self.season[_ITEMS, :24] > 0.5).mean(axis=0)
        return known

    def pass_minute(self, minute: int, heard: Bools) -> None:
        """Count a minute, in which the series `heard` got items."""
        self.missed += (self.due(minute // 60) / 60).astype(np.float32)
        self.silent_min += 1
        self.missed[heard] = 0
        self.silent_min[heard] = 0

    def learn(self, hour: int, items: Counts, skipped: Bools) -> None:
        """Take in the items [series] of a clock's hour, but for the series `skipped`."""
        due, factor = self.due(hour), self._factor(hour)
        outage = (items == 0) & (due >= _OUTAGE_ITEMS) & (self.silent_min <= _GIVE_UP_MIN)
        taken = ~(skipped | outage)
        new = self.level[_DUE] < 24  # without a day's history nothing is too much
        bounded = np.where(new, items, np.minimum(items, _WINSOR * due + _WINSOR_ITEMS)) * taken
        for slot in (hour % 24, self._day(hour)):
            own = (self.season[_ITEMS, slot] + _PRIOR) / (self.season[_DUE, slot] + _PRIOR)
            self.season[_ITEMS, slot] += bounded
            self.season[_DUE, slot] += np.where(new, bounded, taken * due / own)
        self.fade(1)
        self.level[_ITEMS] += bounded
        self.level[_DUE] += taken * factor

    def fade(self, hours: int) -> None:
        """Forget as much as in `hours`."""
        self.level *= np.exp(-hours / _FORGET_H)
        self.season *= np.float32(np.exp(-hours / _FORGET_SEASON_H))

    @staticmethod
    def _day(hour: int) -> int:
        return _WEEKEND if (hour // 24 + 3) % 7 >= 5 else _WEEKDAY  # the first day of Unix time was a Thursday

    def _factor(self, hour: int) -> Floats:
        slots = self.season[:, [hour % 24, self._day(hour)]].astype(np.float64) + _PRIOR
        factor: Floats = (slots[_ITEMS] / slots[_DUE]).prod(axis=0)
        return factor
