"""Counts of all series over the last minutes and hours, with sums over windows, a column a series."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from alerts.columns import Columns, Counts, Ints

WINDOWS_MIN = (5, 15, 30, 60, 120, 240, 1_440)
NEGATIVES, OTHERS, COPIES = range(3)
GUARD_H = 4
"""Hours between the newest hour that a baseline has learnt from and now."""

_STEPS_MIN = (1, 1, 1, 1, 15, 15, 60)  # a window ends now and begins at a full step
_SLOTS = {1: 60, 15: 16, 60: 24}
_RINGS = {1: "minutes", 15: "quarters", 60: "hours"}
_MOST = np.iinfo(np.uint16).max


class Rolling(Columns):
    """Counts [kind, slot, series] of the last 60 minutes, 16 quarters and 24 hours. Minutes are Unix time // 60.

    `sums[kind, window, series]` holds what happened in the last `WINDOWS_MIN[window]` minutes, this one included; those
    of 120 and 240 minutes begin at a full quarter and that of a day at a full hour, so that they are up to 14 and 59
    minutes shorter. A minute holds 65,535 items of a kind and series at most; what is above is not counted.
    """

    fields: ClassVar = {
        "minutes": ((3, 60), np.uint16),
        "quarters": ((3, 16), np.int32),
        "hours": ((3, 24), np.int32),
        "sums": ((3, len(WINDOWS_MIN)), np.int32),
    }
    minutes: NDArray[np.uint16]
    quarters: Counts
    hours: Counts
    sums: Counts

    def __init__(self, minute: int) -> None:
        super().__init__()
        self.minute = minute
        self._filled = [False] * _SLOTS[1]  # minutes that may hold a count

    def advance(self) -> Counts | None:
        """Go on to the next minute; at a full hour return the counts [kind, series] of the hour that ended 4 h ago."""
        self.minute += 1
        for at, (window, step) in enumerate(zip(WINDOWS_MIN, _STEPS_MIN, strict=True)):
            slot = (self.minute - window) // step % _SLOTS[step]
            if self._filled[slot] if step == 1 else self.minute % step == 0:
                self.sums[:, at] -= getattr(self, _RINGS[step])[:, slot]
        for step, slots in _SLOTS.items():
            slot = self.minute // step % slots
            if self._filled[slot] if step == 1 else self.minute % step == 0:
                getattr(self, _RINGS[step])[:, slot] = 0
        self._filled[self.minute % _SLOTS[1]] = False
        return self.hour(GUARD_H + 1) if self.minute % 60 == 0 else None

    def hour(self, ago: int) -> Counts:
        """Return the counts [kind, series] of the clock's hour so many before this one."""
        counts: Counts = self.hours[:, (self.minute // 60 - ago) % 24]
        return counts

    def add(self, kinds: Ints, minutes: Ints, columns: Ints, counts: Ints) -> None:
        """Add `counts[i]` of `kinds[i]` at event minute `minutes[i]` to series `columns[i]`."""
        if not counts.size:
            return
        ages = np.maximum(self.minute - minutes, 0)
        within = ages < max(WINDOWS_MIN)
        kinds, ages, columns, counts = kinds[within], ages[within], columns[within], counts[within]
        # Each minute, kind and series once: a minute has a most, and sums hold what the minute takes.
        cells = (ages * 3 + kinds) * self.series + columns
        cells, places = np.unique(cells, return_inverse=True)
        totals = np.bincount(places, counts, len(cells)).astype(np.int64)
        ages, kinds, columns = cells // (3 * self.series), cells // self.series % 3, cells % self.series
        minutes = self.minute - ages
        slots = minutes % _SLOTS[1]
        fresh = ages < _SLOTS[1]
        before = np.where(fresh, self.minutes[kinds, slots, columns], 0)
        totals = np.minimum(totals, _MOST - before)
        self.minutes[kinds[fresh], slots[fresh], columns[fresh]] += totals[fresh].astype(np.uint16)
        for slot in set(slots[fresh].tolist()):
            self._filled[slot] = True
        for step in (15, 60):
            held = self.minute // step - minutes // step < _SLOTS[step]
            slot = minutes[held] // step % _SLOTS[step]
            np.add.at(getattr(self, _RINGS[step]), (kinds[held], slot, columns[held]), totals[held])
        for at, (window, step) in enumerate(zip(WINDOWS_MIN, _STEPS_MIN, strict=True)):
            held = self.minute // step - minutes // step < window // step
            np.add.at(self.sums[:, at], (kinds[held], columns[held]), totals[held])

    def clear(self, minute: int) -> None:
        """Jump to `minute` over a time without items that is longer than all windows."""
        self.minute = minute
        for name in self.fields:
            getattr(self, name)[...] = 0
        self._filled = [False] * _SLOTS[1]

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take over what `state` returned."""
        super().restore(state)
        self._filled = [bool(self.minutes[:, slot].any()) for slot in range(_SLOTS[1])]
