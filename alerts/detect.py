"""Series in, scores out: `timestamp,value` rows through the detector of plain counts, each judged by what came before.

Rows of the same time are added up into the first of them; the others get the score 0 and are counted. An empty value is
missing, not zero, and so is the time of a gap. The first 20 rows tell the usual step; like the rest of the warm-up (20
hours, or 20 rows that are longer) they score 0, so that no score rests on a later row.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import TextIO

import msgspec
import numpy as np

from alerts.counts import CountDetector
from alerts.negbin import central_interval

STEP_ROWS = 20
_GAP = 1.5
_UNIX = re.compile(r"\d+(\.\d+)?")
_MILLISECONDS_FROM = 1e11


class SeriesFileError(ValueError):
    """The file is not a series; the message names file, row and column."""


class Row(msgspec.Struct, frozen=True):
    """One row of the file. `at` is Unix seconds, `value` NaN where it is missing."""

    stamp: str
    at: float
    value: float


class Scored(msgspec.Struct, frozen=True):
    """A row, its score, and mean and variance of what was expected; NaN where it was not judged."""

    row: Row
    score: float
    expected: float = math.nan
    variance: float = math.nan

    def band(self) -> tuple[float, float]:
        """Return what holds the value with probability 95 %; NaN where the row was not judged."""
        if math.isnan(self.expected):
            return math.nan, math.nan
        return central_interval(self.expected, self.expected**2 / (self.variance - self.expected))


class Told(msgspec.Struct):
    """What was unusual in the file, for the user to know."""

    rows: int = 0
    step_s: float = math.nan
    missing: int = 0
    repeated: int = 0
    gaps: int = 0
    gap_s: float = 0.0
    points: int = 0
    unjudged: int = 0


def read(path: Path) -> list[Row]:
    """Return the rows of a CSV file with the columns `timestamp` and `value`; others are left alone.

    Times are ISO 8601 (UTC where no zone is given) or Unix, in seconds or milliseconds.

    Raises:
        SeriesFileError: it cannot be read, a column is lacking, a value is no count, or time goes backwards.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            return list(_rows(path, lines))
    except (OSError, UnicodeDecodeError, csv.Error) as exc:
        raise SeriesFileError(f"{path} cannot be read as CSV: {exc}") from exc


def scored(rows: list[Row], told: Told | None = None) -> Iterator[Scored]:
    """Yield each row with its score, by the rows up to it; `told` is filled in meanwhile."""
    told = told if told is not None else Told()
    groups: list[list[Row]] = []
    for row in rows:
        if groups and groups[-1][0].at == row.at:
            groups[-1].append(row)
        else:
            groups.append([row])
    head = groups[: STEP_ROWS + 1]
    steps = [later[0].at - earlier[0].at for earlier, later in pairwise(head)]
    told.step_s = float(median(steps)) if steps else 1.0
    detector = CountDetector(1, told.step_s)
    last = math.nan
    for place, group in enumerate(groups):
        told.rows += len(group)
        told.repeated += len(group) - 1
        values = [row.value for row in group if not math.isnan(row.value)]
        told.missing += len(group) - len(values)
        elapsed = group[0].at - last
        last = group[0].at
        covered = told.step_s
        if elapsed > _GAP * told.step_s:
            told.gaps, told.gap_s = told.gaps + 1, told.gap_s + elapsed - told.step_s
        elif not math.isnan(elapsed):
            covered = elapsed
        judgement = detector.update(last, np.array([sum(values) if values else math.nan]), covered)
        if place < STEP_ROWS or math.isnan(judgement.days[0]):
            told.unjudged += len(group)
            yield from (Scored(row, 0.0) for row in group)
            continue
        point = bool(judgement.point[0])
        told.points += point
        score = float(judgement.score[0]) if point else 0.0
        yield Scored(group[0], score, float(judgement.expected[0]), float(judgement.variance[0]))
        yield from (Scored(row, 0.0) for row in group[1:])


def write(path: Path, results: list[Scored]) -> None:
    """Write `timestamp,value,anomaly_score`, a row a row.

    Raises:
        SeriesFileError: the file cannot be written.
    """
    try:
        with path.open("w", encoding="utf-8", newline="") as lines:
            table = csv.writer(lines, lineterminator="\n")
            table.writerow(["timestamp", "value", "anomaly_score"])
            for result in results:
                value = "" if math.isnan(result.row.value) else f"{result.row.value:.15g}"
                table.writerow([result.row.stamp, value, f"{result.score:.4f}"])
    except OSError as exc:
        raise SeriesFileError(f"{path} cannot be written: {exc}") from exc


def _rows(path: Path, lines: TextIO) -> Iterator[Row]:
    table = csv.DictReader(lines)
    names = [name.strip().lower() for name in table.fieldnames or ()]
    for column in ("timestamp", "value"):
        if column not in names:
            raise SeriesFileError(f"{path} has no column {column!r}, but {', '.join(names) or 'nothing'}")
    table.fieldnames = names
    last = -math.inf
    for cells in table:
        where = f"{path}, row {table.line_num}"
        at = _time(cells["timestamp"] or "", where)
        if at < last:
            raise SeriesFileError(
                f"{where}, column timestamp: {cells['timestamp']!r} is earlier than the row above; sort"
            )
        last = at
        yield Row(cells["timestamp"], at, _value(cells["value"], where))


def _time(text: str, where: str) -> float:
    text = text.strip()
    if _UNIX.fullmatch(text):
        number = float(text)
        return number / 1000 if number >= _MILLISECONDS_FROM else number
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError) as exc:
        raise SeriesFileError(f"{where}, column timestamp: {text[:40]!r} is neither ISO 8601 nor Unix time") from exc


def _value(text: str | None, where: str) -> float:
    text = (text or "").strip()
    if not text or text.lower() in ("nan", "null", "na"):
        return math.nan
    try:
        value = float(text)
    except ValueError as exc:
        raise SeriesFileError(f"{where}, column value: {text[:40]!r} is not a number") from exc
    if not 0 <= value <= 1e15:
        raise SeriesFileError(f"{where}, column value: {text[:40]} is no count; it must be from 0 to 1e15")
    return value
