"""What the detectors were given, by series and minute, so that a report can draw it: on disk, for a million items."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from alerts.series import MARKET
from alerts.windows import COPY, NEGATIVE, Count

_TABLE = """
CREATE TABLE counts (series INTEGER, minute INTEGER, negatives INTEGER, others INTEGER, copies INTEGER,
                     PRIMARY KEY (series, minute)) WITHOUT ROWID
"""
_ADD = """
INSERT INTO counts VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
negatives = negatives + excluded.negatives, others = others + excluded.others, copies = copies + excluded.copies
"""

Ints = NDArray[np.int64]


class Course:
    """Counts by series and event minute (Unix time // 60). The file is of this run alone and may be thrown away."""

    def __init__(self, path: Path) -> None:
        self._base = sqlite3.connect(path, isolation_level=None)
        self._base.executescript(f"PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; {_TABLE}")
        self._series: dict[str, int] = {}

    def close(self) -> None:
        """Close the file."""
        self._base.close()

    def add(self, counts: Mapping[Count, int]) -> None:
        """Add the counts of a bucket."""
        rows = [
            (
                self._series.setdefault(series, len(self._series)),
                minute,
                number if kind == NEGATIVE else 0,
                number if kind not in (NEGATIVE, COPY) else 0,
                number if kind == COPY else 0,
            )
            for (series, minute, kind), number in counts.items()
        ]
        self._base.execute("BEGIN")
        self._base.executemany(_ADD, rows)
        self._base.execute("COMMIT")

    def between(self, series: str, first: int, last: int) -> Ints:
        """Return minute, negatives, others and copies `[n, 4]` of the minutes of a series that had any, in order."""
        rows = self._base.execute(
            "SELECT minute, negatives, others, copies FROM counts WHERE series = ? AND minute BETWEEN ? AND ?",
            (self._series.get(series, -1), first, last),
        ).fetchall()
        return np.array(rows, dtype=np.int64).reshape(-1, 4)

    def market(self, first: int, bin_min: int) -> Ints:
        """Return bin, negatives, others and copies `[n, 4]` of the market, in bins of so many minutes from `first`."""
        rows = self._base.execute(
            "SELECT (minute - ?) / ?, sum(negatives), sum(others), sum(copies) FROM counts "
            "WHERE series = ? AND minute >= ? GROUP BY 1 ORDER BY 1",
            (first, bin_min, self._series.get(MARKET, -1), first),
        ).fetchall()
        return np.array(rows, dtype=np.int64).reshape(-1, 4)
