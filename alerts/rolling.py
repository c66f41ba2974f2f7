"""Counts of all series over the last minutes and hours, with sums over windows, a column a series."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

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
_BY_STEP: dict[int, list[tuple[int, int]]] = {
    step: [(at, window) for at, window in enumerate(WINDOWS_MIN) if _STEPS_MIN[at] == step] for step in _SLOTS
}
"""Number and length of the windows that begin at a step of so many minutes."""
_MOST = np.iinfo(np.uint16).max


class Arrivals(NamedTuple):
    """What came in one minute: `counts[i]` items of `kinds[i]` and event minute `minutes[i]` for series `columns[i]`.

    Each kind, event minute and series stands there once; no event minute lies ahead.
    """

    kinds: Ints
    minutes: Ints
    columns: Ints
    counts: Ints

    @property
    def heard(self) -> Ints:
        """The columns that got something, some of them more than once."""
        return self.columns[self.counts > 0]


NO_ARRIVALS = Arrivals(*(np.zeros(0, dtype=np.int64) for _ in range(4)))


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
        for at, window in _BY_STEP[1]:
            slot = (self.minute - window) % _SLOTS[1]
            if self._filled[slot]:
                self.sums[:, at] -= self.minutes[:, slot]
        slot = self.minute % _SLOTS[1]
        if self._filled[slot]:
            self.minutes[:, slot] = 0
            self._filled[slot] = False
        if self.minute % 15:
            return None
        for step in (15, 60):
            if self.minute % step == 0:
                ring = getattr(self, _RINGS[step])
                for at, window in _BY_STEP[step]:
                    self.sums[:, at] -= ring[:, (self.minute - window) // step % _SLOTS[step]]
                ring[:, self.minute // step % _SLOTS[step]] = 0
        return self.hour(GUARD_H + 1) if self.minute % 60 == 0 else None

    def hour(self, ago: int) -> Counts:
        """Return the counts [kind, series] of the clock's hour so many before this one."""
        counts: Counts = self.hours[:, (self.minute // 60 - ago) % 24]
        return counts

    def add(self, arrivals: Arrivals) -> None:
        """Add what arrived in this minute."""
        kinds, minutes, columns, counts = arrivals
        if not counts.size:
            return
        ages = self.minute - minutes
        if not ages.any():
            self._add_now(kinds, columns, counts)
            return
        within = ages < max(WINDOWS_MIN)
        kinds, ages, columns, counts = kinds[within], ages[within], columns[within], counts[within]
        minutes = self.minute - ages
        slots = minutes % _SLOTS[1]
        fresh = ages < _SLOTS[1]
        before = np.where(fresh, self.minutes[kinds, slots, columns], 0)
        totals = np.minimum(counts, _MOST - before)  # a minute has a most, and sums hold what the minute takes
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

    def _add_now(self, kinds: Ints, columns: Ints, counts: Ints) -> None:
        """Do what `add` does, for items that happened in the minute in which they came: most do."""
        slot = self.minute % _SLOTS[1]
        before = self.minutes[kinds, slot, columns].astype(np.int64)
        totals = np.minimum(counts, _MOST - before)
        self.minutes[kinds, slot, columns] = before + totals
        self._filled[slot] = True
        self.quarters[kinds, self.minute // 15 % _SLOTS[15], columns] += totals
        self.hours[kinds, self.minute // 60 % _SLOTS[60], columns] += totals
        self.sums[kinds, :, columns] += totals[:, None]

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
