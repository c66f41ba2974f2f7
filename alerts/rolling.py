"""Counts of all series over the last minutes, with sums over windows, a column a series."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

WINDOWS_MIN = (5, 15, 60, 240)
NEGATIVES, OTHERS, COPIES = range(3)
GUARD_H = 4
"""Hours between the newest hour that a baseline has learnt from and now."""

_RING = max(WINDOWS_MIN)
_HOURS = GUARD_H + 1


class Rolling:
    """Minute counts of `_RING` minutes and hour totals not yet learnt from. Minutes are Unix time // 60.

    `sums[kind, window, series]` holds what happened in the last `WINDOWS_MIN[window]` minutes, this one included.
    """

    def __init__(self, minute: int, series: int = 0) -> None:
        self.minute = minute
        self.ring = np.zeros((3, _RING, series), dtype=np.int32)
        self.sums = np.zeros((3, len(WINDOWS_MIN), series), dtype=np.int64)
        self.hours = np.zeros((2, _HOURS, series), dtype=np.int64)

    def advance(self) -> Ints | None:
        """Go on to the next minute; at a full hour return the totals [2, series] of the hour that ended 4 h ago."""
        self.minute += 1
        for at, window in enumerate(WINDOWS_MIN):
            self.sums[:, at] -= self.ring[:, (self.minute - window) % _RING]
        self.ring[:, self.minute % _RING] = 0
        if self.minute % 60:
            return None
        slot = (self.minute // 60) % _HOURS  # still that of the hour _HOURS before: it ended GUARD_H ago
        totals = self.hours[:, slot].copy()
        self.hours[:, slot] = 0
        return totals

    def add(self, kinds: Ints, minutes: Ints, columns: Ints, counts: Ints) -> None:
        """Add `counts[i]` of `kinds[i]` at event minute `minutes[i]` to series `columns[i]`.

        What belongs to an hour that was learnt from already goes to the oldest that was not.
        """
        minutes = np.minimum(minutes, self.minute)
        ages = self.minute - minutes
        fresh = ages < _RING
        np.add.at(self.ring, (kinds[fresh], minutes[fresh] % _RING, columns[fresh]), counts[fresh])
        for at, window in enumerate(WINDOWS_MIN):
            within = ages < window
            np.add.at(self.sums[:, at], (kinds[within], columns[within]), counts[within])
        learnt = kinds != COPIES
        hours = np.maximum(minutes[learnt] // 60, self.minute // 60 - GUARD_H)
        np.add.at(self.hours, (kinds[learnt], hours % _HOURS, columns[learnt]), counts[learnt])

    def clear(self, minute: int) -> None:
        """Jump to `minute` over a time without items that is longer than all windows and the guard."""
        self.minute = minute
        self.ring[:] = 0
        self.sums[:] = 0
        self.hours[:] = 0

    def grow(self, more: int) -> None:
        """Append `more` empty series."""
        for name in ("ring", "sums", "hours"):
            old = getattr(self, name)
            setattr(self, name, np.concatenate([old, np.zeros((*old.shape[:-1], more), old.dtype)], axis=-1))

    def keep(self, columns: Ints) -> None:
        """Keep only these series, in this order."""
        for name in ("ring", "sums", "hours"):
            setattr(self, name, getattr(self, name)[..., columns].copy())
