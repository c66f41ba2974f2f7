"""How many items a series usually has, so that a silent feed is told from a calm one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from alerts.columns import Bools, Columns, Counts, Floats, Ints
from alerts.season import PARTS, Season, part_of, parts_fade
from alerts.sessions import Sessions

SILENT_ITEMS = 20.0
"""So many items must have been due since the last one before a series has no data ..."""
SILENT_MIN = 15
"""... and so many minutes be silent, since feeds that are polled bring their items at once."""
_ROUNDED = 0.01  # more than what is rounded off in an hour of minutes
_OUTAGE_ITEMS = 10.0  # an hour without an item in which so many were due says little of how many are usual
_GIVE_UP_MIN = 3 * 1_440
_FORGET_H = 240.0
_HOURS_FADE, _WEEK_FADE = float(np.exp(-1 / 28)), parts_fade(6)
_PRIORS = (10.0, 4.0)
_HOURS_MOST, _WEEK_MOST = 300.0, 60.0  # items that an hour's worth tells at most, since volume comes in bursts
_QUIET = 0.05  # a part of the week with less of the usual than this is one in which nothing is due
_WINSOR, _WINSOR_ITEMS = 3.0, 3.0
_ITEMS, _DUE = 0, 1


class Volume(Columns):
    """Items an hour: a level that fades over 10 days times factors of the hour of day and of the part of the week.

    An hour counts for three times what was due (and 3 items) at most, so that a burst is not expected again. While
    nothing comes, what would have been due adds up: from 20 items and 15 minutes on the series, and all that it
    contains, has no data. Such hours do not lower the level, but the season learns from them: a feed that rests at
    weekends is not silent then. After three days the silence is learnt as the new usual.
    """

    fields: ClassVar = {
        "level": ((2,), np.float64),
        "season": ((2, 24), np.float16),
        "week": ((2, PARTS), np.float16),
        "missed": ((), np.float32),  # items due since the last one
        "silent_min": ((), np.int32),
        "parents": ((), np.int32),  # a parent stands before its parts; -1 has none
    }
    level: Floats
    season: NDArray[np.float16]
    week: NDArray[np.float16]
    missed: NDArray[np.float32]
    silent_min: NDArray[np.int32]
    parents: NDArray[np.int32]

    def __init__(self, sessions: Sessions, hour: int) -> None:
        """`hour` is the clock's hour under way (Unix time // 3600)."""
        super().__init__()
        self._sessions = sessions
        self._go_by(self._new_season())
        self.turn(hour)

    def turn(self, hour: int) -> None:
        """The clock's hour under way is `hour`."""
        self.hour = hour
        of_hour, of_part = self._seasons.split(self._sessions.slot(hour))
        factor = np.where((of_hour < _QUIET) | (of_part < _QUIET), 0.0, of_hour * of_part).astype(np.float32)
        self._due: Floats = self._usual() * factor

    def due(self) -> Floats:
        """Return the items [series] that are usual in the hour under way."""
        return self._due

    def rate(self, columns: Ints | slice = slice(None)) -> Floats:
        """Return the usual items a minute [series], all hours taken together."""
        rate: Floats = self.level[_ITEMS, columns] / np.maximum(self.level[_DUE, columns], 24.0) / 60
        return rate

    def missing(self) -> Bools:
        """Return which series have no data: they are silent, or what contains them is."""
        return self.with_parts(self._silent() & (self.silent_min <= _GIVE_UP_MIN))

    def known_hours(self) -> Floats:
        """Return the part [series] of the day's hours of which items are known."""
        known: Floats = (self.season[_ITEMS] > 0.5).mean(axis=0)
        return known

    def pass_minute(self, heard: Ints) -> Ints:
        """Count a minute of the hour under way, in which the series `heard` got items; return whose silence ended."""
        silent = self._silent()
        self.pass_minutes(1, {0: heard})
        if not silent[heard].any():
            return np.zeros(0, np.int64)
        return np.flatnonzero(self.with_parts(silent) & ~self.with_parts(self._silent()))

    def pass_minutes(self, minutes: int, heard: Mapping[int, Ints]) -> None:
        """Count minutes of the hour under way; in the minute of each number in `heard` those series got items."""
        due = (self.due() / 60).astype(np.float32)
        for at in range(minutes):  # one by one: a product would be rounded otherwise
            self.missed += due
            if at in heard:
                self.missed[heard[at]] = 0
        self.silent_min += minutes
        for at in sorted(heard):
            self.silent_min[heard[at]] = minutes - 1 - at

    def may_return(self, heard: Ints, minutes: int) -> bool:
        """Say whether one of these series may have been silent before an item in the next minutes of this hour."""
        silent = self.silent_min[heard] + minutes >= SILENT_MIN
        most = self.missed[heard] + self.due()[heard] * (minutes / 60)
        return bool((silent & (most >= SILENT_ITEMS - _ROUNDED)).any())

    def learn(self, hour: int, items: Counts, skipped: Bools) -> None:
        """Take in the items [series] of a clock's hour, but for the series `skipped`."""
        slot = self._sessions.slot(hour)
        of_hour, of_part = self._seasons.split(slot)
        due = self._usual() * of_hour * of_part
        outage = (items == 0) & (due >= _OUTAGE_ITEMS) & (self.silent_min <= _GIVE_UP_MIN)
        outage = self.with_parts(outage) & (items == 0)
        new = self.level[_DUE] < 24  # without a day's history nothing is too much
        bounded = np.where(new, items, np.minimum(items, _WINSOR * due + _WINSOR_ITEMS))
        for counts, place, factor, most, fade in (
            (self.season, slot.hour, of_hour, _HOURS_MOST, _HOURS_FADE),
            (self.week, part_of(slot), of_part, _WEEK_MOST, _WEEK_FADE),
        ):
            expected = np.where(new, bounded, due / factor)
            told = ~skipped / (1 + expected / most) * np.stack([bounded, expected])
            counts[:, place] = counts[:, place] * fade + told
        self._seasons.changed(slot)
        self.level *= np.exp(-1 / _FORGET_H)
        taken = ~(skipped | outage)
        self.level[_ITEMS] += bounded * taken
        self.level[_DUE] += taken * of_hour * of_part
        self.turn(self.hour)

    def fade(self, first: int, hours: int) -> None:
        """Forget as much as in so many hours, from the clock's hour `first` on."""
        self.level *= np.exp(-hours / _FORGET_H)
        for hour in range(first, first + hours):
            slot = self._sessions.slot(hour)
            self.season[:, slot.hour] *= np.float16(_HOURS_FADE)
            self.week[:, part_of(slot)] *= np.float16(_WEEK_FADE)
            self._seasons.changed(slot)

    def append(self, parents: list[int]) -> None:
        """Append a series for each of `parents`, its parent's column."""
        self.grow(len(parents))
        self.parents[self.series - len(parents) :] = parents
        self._go_by(self._seasons.grown(self.season, self.week, self.parents))
        self.turn(self.hour)

    def keep(self, columns: Ints) -> None:
        """Keep only these series, in rising order; each one's parent must be among them."""
        moved = np.full(self.series + 1, -1, dtype=np.int32)  # the last entry answers for "no parent"
        moved[columns] = np.arange(len(columns))
        super().keep(columns)
        self.parents[:] = moved[self.parents]
        self._go_by(self._seasons.taken(self.season, self.week, self.parents, columns))
        self.turn(self.hour)

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take over what `state` returned."""
        super().restore(state)
        self._go_by(self._new_season())
        self.turn(self.hour)

    def _go_by(self, seasons: Season) -> None:
        """Go by these seasons, of the series that there are."""
        self._seasons = seasons
        above = np.unique(self.parents[self.parents >= 0])
        self.roots: Counts = above[self.parents[above] < 0]
        """The columns of what contains others and is not contained itself."""

    def _new_season(self) -> Season:
        return Season(self.season, self.week, self.parents, _PRIORS, balanced=False)

    def _silent(self) -> Bools:
        silent: Bools = (self.silent_min >= SILENT_MIN) & (self.missed >= SILENT_ITEMS)
        return silent

    def _usual(self) -> Floats:
        usual: Floats = self.level[_ITEMS] / np.maximum(self.level[_DUE], 1.0)
        return usual

    def with_parts(self, chosen: Bools) -> Bools:
        """Return which series are chosen, or contained in what is."""
        if not chosen.any():
            return chosen
        for _ in range(2):  # the market, companies, their topics
            chosen = chosen | np.append(chosen, False)[self.parents]
        return chosen
