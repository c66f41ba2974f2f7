"""Prices beside an alert's chart: CSV files of a folder, one a company."""

from __future__ import annotations

import csv
import logging
import math
import threading
from array import array
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from alerts.series import company_of

log = logging.getLogger(__name__)

_MAX_ROWS, _MAX_POINTS = 1_000_000, 400
_KEPT = 8

_Columns = tuple[Sequence[float], Sequence[float]]


class Prices:
    """The files of a folder. The last 8 that were asked for are kept in memory until they change on disk."""

    def __init__(self, folder: Path | None) -> None:
        """Without a folder there are no prices."""
        self._folder = folder
        self._files: OrderedDict[Path, tuple[tuple[int, int], _Columns]] = OrderedDict()
        self._lock = threading.Lock()

    def between(self, series: str, begin: datetime, end: datetime) -> list[tuple[datetime, float]]:
        """Return the prices of a series' company between two times, at most 400 of them; empty when there are none."""
        company = company_of(series)
        if self._folder is None or not company or not all(char.isalnum() or char in ".-" for char in company):
            return []
        path = self._folder / f"{company}.csv"
        try:
            inside = path.is_file() and path.parent.resolve() == path.resolve().parent
        except OSError:  # the name is longer than a file's may be
            return []
        if not inside:
            return []
        times, prices = self._read(path)
        first, last = bisect_left(times, begin.timestamp()), bisect_right(times, end.timestamp())
        step = -(-(last - first) // _MAX_POINTS) or 1
        return [(datetime.fromtimestamp(times[n], UTC), prices[n]) for n in range(first, last, step)]

    def _read(self, path: Path) -> _Columns:
        """Return the times (Unix) and prices of a file, in order of time; none when it cannot be used."""
        with self._lock:  # a file is read once, however many look
            try:
                stat = path.stat()
                version = stat.st_mtime_ns, stat.st_size
                held = self._files.get(path)
                if held is None or held[0] != version:
                    held = version, _load(path)
                    self._files[path] = held
            except OSError as exc:
                log.warning("the prices in %s cannot be read: %s", path, exc)
                return array("d"), array("d")
            self._files.move_to_end(path)
            while len(self._files) > _KEPT:
                self._files.popitem(last=False)
            return held[1]


def _load(path: Path) -> _Columns:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            points = sorted(_points(csv.DictReader(file)))
    except (ValueError, csv.Error) as exc:
        log.warning("the prices in %s are not shown: %s", path, exc)
        points = []
    return array("d", (at for at, _ in points)), array("d", (price for _, price in points))


def _points(rows: csv.DictReader[str]) -> Iterator[tuple[float, float]]:
    for number, row in enumerate(rows):
        if number >= _MAX_ROWS:
            raise ValueError(f"it has more than {_MAX_ROWS:,} rows")
        try:
            at, price = datetime.fromisoformat(row["timestamp"]), float(row["price"])
            at_s = (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
        except (KeyError, TypeError, ValueError, OverflowError) as exc:
            raise ValueError(f"row {number + 2}: `timestamp` (ISO 8601) and `price` are needed") from exc
        if not math.isfinite(price):
            raise ValueError(f"row {number + 2}: {price} is no price")
        yield at_s, price
