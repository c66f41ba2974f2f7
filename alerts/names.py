"""Which series stands in which column of the detector, and which of them are parts of which."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from alerts.columns import Ints
from alerts.rolling import COPIES, NEGATIVES, NO_ARRIVALS, OTHERS, Arrivals
from alerts.series import containers, parent
from alerts.windows import COPY, NEGATIVE, Count

_KINDS = {NEGATIVE: NEGATIVES, COPY: COPIES}


class Names:
    """Names of columns: the first name is that of column 0, and so on; what contains a series stands before it."""

    def __init__(self, names: Sequence[str] = ()) -> None:
        self.all: list[str] = []
        self.columns: dict[str, int] = {}
        self._parts: dict[str, list[str]] = {}  # by what contains them directly
        self.append(names)

    def append(self, names: Sequence[str]) -> None:
        """Append a column for each of these series, which have none."""
        for name in names:
            self.columns[name] = len(self.all)
            self.all.append(name)
            for outer in containers(name):
                self._parts.setdefault(outer, []).append(name)

    def parts(self, series: str) -> list[str]:
        """Return the series that `series` contains directly: of the market its topics and companies."""
        return self._parts.get(series, [])

    def parents(self, series: Iterable[str]) -> list[int]:
        """Return the column of what contains each of these series; -1 for none."""
        above = [parent(name) for name in series]
        return [-1 if name is None else self.columns[name] for name in above]

    def knows(self, counts: Mapping[Count, int]) -> bool:
        """Say whether all series of these counts have a column."""
        return all(series in self.columns for series, _, _ in counts)

    def lacking(self, counts: Mapping[Count, int]) -> list[str]:
        """Return the series without a column that these counts need, each with what contains it, that first."""
        wanted: dict[str, None] = {}
        for name in sorted({series for series, _, _ in counts} - self.columns.keys()):
            wanted |= dict.fromkeys(reversed(_line(name)))
        return [name for name in wanted if name not in self.columns]

    def with_parents(self, columns: Iterable[int]) -> Ints:
        """Return these columns and those of all that contains them, rising."""
        needed = set[str]()
        for column in columns:
            for name in _line(self.all[column]):
                if name in needed:
                    break
                needed.add(name)
        return np.array([column for column, name in enumerate(self.all) if name in needed], dtype=np.int64)

    def arrivals(self, minute: int, counts: Mapping[Count, int]) -> tuple[Arrivals, int]:
        """Return what these counts of arrival minute `minute` bring to the columns, and how much has no column."""
        cells: dict[tuple[int, int, int], int] = {}
        refused = 0
        for (series, event_minute, label), count in counts.items():
            column = self.columns.get(series)
            if column is None:
                refused += count
                continue
            cell = _KINDS.get(label, OTHERS), min(event_minute, minute), column
            cells[cell] = cells.get(cell, 0) + count
        if not cells:
            return NO_ARRIVALS, refused
        kinds, minutes, columns = np.array(list(cells), dtype=np.int64).T
        return Arrivals(kinds, minutes, columns, np.array(list(cells.values()), dtype=np.int64)), refused


def _line(series: str) -> list[str]:
    """Return a series, what contains it, what contains that, and so on."""
    line = [series]
    while (above := parent(line[-1])) is not None:
        line.append(above)
    return line
